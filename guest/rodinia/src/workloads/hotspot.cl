/* Temperatures of a chip, several time steps a launch: a group loads its tile with a halo of one
 * cell per step, and every step computes a ring less. Outside of the chip, the nearest cell's
 * temperature holds. */
#define TILE 16

__kernel void hotspot(__global const float *power, __global const float *from, __global float *to,
                      int rows, int columns, int steps,
                      float step_over_capacity, float rx, float ry, float rz, float ambient)
{
    __local float now[TILE][TILE];
    __local float next[TILE][TILE];
    __local float heat[TILE][TILE];
    int tx = get_local_id(0), ty = get_local_id(1);
    int inner = TILE - 2 * steps;
    /* The tile's corner may be outside. */
    int x0 = (int)get_group_id(0) * inner - steps, y0 = (int)get_group_id(1) * inner - steps;
    int x = x0 + tx, y = y0 + ty;
    int inside = x >= 0 && x < columns && y >= 0 && y < rows;
    int west = max(x - 1, 0) - x0, east = min(x + 1, columns - 1) - x0;
    int north = max(y - 1, 0) - y0, south = min(y + 1, rows - 1) - y0;

    if (inside) {
        now[ty][tx] = from[y * columns + x];
        heat[ty][tx] = power[y * columns + x];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 1; i <= steps; i++) {
        int valid = inside && tx >= i && tx < TILE - i && ty >= i && ty < TILE - i;
        if (valid) {
            float here = now[ty][tx];
            next[ty][tx] = here + step_over_capacity * (heat[ty][tx] +
                (now[south][tx] + now[north][tx] - 2.0f * here) * ry +
                (now[ty][east] + now[ty][west] - 2.0f * here) * rx +
                (ambient - here) * rz);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (valid)
            now[ty][tx] = next[ty][tx];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (inside && tx >= steps && tx < TILE - steps && ty >= steps && ty < TILE - steps)
        to[y * columns + x] = now[ty][tx];
}
