/* Alignment scores, a diagonal of blocks per launch. In a block the front moves from its first
 * corner to its last one, a diagonal of cells per step. Row and column 0 of the scores are given. */
#define B 16

/* The launch has the `get_num_groups(0)` blocks of the diagonal that starts in the block column
 * `left` and the block row `low`, and goes up and to the right. */
__kernel void align(__global const int *similarity, __global int *score, int n, int penalty,
                    int left, int low)
{
    __local int cells[B + 1][B + 1];
    __local int gain[B][B];
    int t = get_local_id(0), g = get_group_id(0), stride = n + 1;
    int x0 = (left + g) * B, y0 = (low - g) * B;

    for (int i = 0; i < B; i++)
        gain[i][t] = similarity[(y0 + i) * n + x0 + t];
    cells[t + 1][0] = score[(y0 + t + 1) * stride + x0];
    cells[0][t + 1] = score[y0 * stride + x0 + t + 1];
    if (t == 0)
        cells[0][0] = score[y0 * stride + x0];
    for (int step = 0; step < 2 * B - 1; step++) {
        int x = t, y = step - t;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (y >= 0 && y < B) {
            int both = cells[y][x] + gain[y][x];
            int one = max(cells[y + 1][x], cells[y][x + 1]) - penalty;
            cells[y + 1][x + 1] = max(both, one);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < B; i++)
        score[(y0 + i + 1) * stride + x0 + t + 1] = cells[i + 1][t + 1];
}
