/* LU decomposition in blocks: for each block on the diagonal, the block itself, then those right
 * of it and below it, then all the others beyond. */
#define B 16

__kernel void diagonal(__global float *m, uint n, uint offset)
{
    __local float tile[B][B];
    uint t = get_local_id(0);

    for (uint i = 0; i < B; i++)
        tile[i][t] = m[(offset + i) * n + offset + t];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < B - 1; i++) {
        if (t > i) {
            for (uint j = 0; j < i; j++)
                tile[t][i] -= tile[t][j] * tile[j][i];
            tile[t][i] /= tile[i][i];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t > i)
            for (uint j = 0; j < i + 1; j++)
                tile[i + 1][t] -= tile[i + 1][j] * tile[j][t];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (uint i = 0; i < B; i++)
        m[(offset + i) * n + offset + t] = tile[i][t];
}

/* A group has the block right of the diagonal (its first half) and the one below (its second). */
__kernel void perimeter(__global float *m, uint n, uint offset)
{
    __local float dia[B][B];
    __local float row[B][B];
    __local float column[B][B];
    uint t = get_local_id(0) % B, below = get_local_id(0) / B;
    uint beyond = offset + (get_group_id(0) + 1) * B;

    for (uint i = below; i < B; i += 2)
        dia[i][t] = m[(offset + i) * n + offset + t];
    for (uint i = 0; i < B; i++) {
        if (below)
            column[i][t] = m[(beyond + i) * n + offset + t];
        else
            row[i][t] = m[(offset + i) * n + beyond + t];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (below) {
        for (uint i = 0; i < B; i++) {
            for (uint j = 0; j < i; j++)
                column[t][i] -= column[t][j] * dia[j][i];
            column[t][i] /= dia[i][i];
        }
    } else {
        for (uint i = 1; i < B; i++)
            for (uint j = 0; j < i; j++)
                row[i][t] -= dia[i][j] * row[j][t];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < B; i++) {
        if (below)
            m[(beyond + i) * n + offset + t] = column[i][t];
        else
            m[(offset + i) * n + beyond + t] = row[i][t];
    }
}

__kernel void internal(__global float *m, uint n, uint offset)
{
    __local float row[B][B];
    __local float column[B][B];
    uint tx = get_local_id(0), ty = get_local_id(1);
    uint x = offset + (get_group_id(0) + 1) * B + tx, y = offset + (get_group_id(1) + 1) * B + ty;
    float sum = 0;

    row[ty][tx] = m[(offset + ty) * n + x];
    column[ty][tx] = m[y * n + offset + tx];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < B; i++)
        sum += column[ty][i] * row[i][tx];
    m[y * n + x] -= sum;
}
