/* Cheapest way down a grid, several rows a launch: a group loads its columns with a halo of one
 * per row, and every row computes one less on each side. */
#define GROUP 256

__kernel void pathfinder(__global const int *wall, __global const int *from, __global int *to,
                         int columns, int first_row, int rows)
{
    __local int now[GROUP];
    __local int next[GROUP];
    int t = get_local_id(0);
    int x0 = (int)get_group_id(0) * (GROUP - 2 * rows) - rows;
    int x = x0 + t;
    int inside = x >= 0 && x < columns;
    int west = max(x - 1, 0) - x0, east = min(x + 1, columns - 1) - x0;

    if (inside)
        now[t] = from[x];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 1; i <= rows; i++) {
        int valid = inside && t >= i && t < GROUP - i;
        if (valid) {
            int cheapest = min(min(now[west], now[t]), now[east]);
            next[t] = cheapest + wall[(first_row + i - 1) * columns + x];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (valid)
            now[t] = next[t];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (inside && t >= rows && t < GROUP - rows)
        to[x] = now[t];
}
