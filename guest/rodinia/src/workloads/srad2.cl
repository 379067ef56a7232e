/* Speckle-reducing diffusion in tiles: each group loads its tile and the pixels around it. */
#define TILE 16

__kernel void coefficients(__global const float *image, __global float *dn, __global float *ds,
                           __global float *dw, __global float *de, __global float *c, int n,
                           float q0)
{
    __local float tile[TILE + 2][TILE + 2];
    int tx = get_local_id(0), ty = get_local_id(1);
    int x = get_global_id(0), y = get_global_id(1), at = y * n + x;
    float here, north, south, west, east, gradient, laplacian, numerator, denominator, q;

    tile[ty + 1][tx + 1] = image[at];
    if (ty == 0)
        tile[0][tx + 1] = image[max(y - 1, 0) * n + x];
    if (ty == TILE - 1)
        tile[TILE + 1][tx + 1] = image[min(y + 1, n - 1) * n + x];
    if (tx == 0)
        tile[ty + 1][0] = image[y * n + max(x - 1, 0)];
    if (tx == TILE - 1)
        tile[ty + 1][TILE + 1] = image[y * n + min(x + 1, n - 1)];
    barrier(CLK_LOCAL_MEM_FENCE);

    here = tile[ty + 1][tx + 1];
    north = tile[ty][tx + 1] - here;
    south = tile[ty + 2][tx + 1] - here;
    west = tile[ty + 1][tx] - here;
    east = tile[ty + 1][tx + 2] - here;
    gradient = (north * north + south * south + west * west + east * east) / (here * here);
    laplacian = (north + south + west + east) / here;
    numerator = 0.5f * gradient - laplacian * laplacian / 16.0f;
    denominator = 1.0f + 0.25f * laplacian;
    q = numerator / (denominator * denominator);
    dn[at] = north;
    ds[at] = south;
    dw[at] = west;
    de[at] = east;
    c[at] = clamp(1.0f / (1.0f + (q - q0) / (q0 * (1.0f + q0))), 0.0f, 1.0f);
}

__kernel void update(__global float *image, __global const float *dn, __global const float *ds,
                     __global const float *dw, __global const float *de, __global const float *c,
                     int n, float lambda)
{
    __local float tile[TILE + 1][TILE + 1];
    int tx = get_local_id(0), ty = get_local_id(1);
    int x = get_global_id(0), y = get_global_id(1), at = y * n + x;

    tile[ty][tx] = c[at];
    if (ty == TILE - 1)
        tile[TILE][tx] = c[min(y + 1, n - 1) * n + x];
    if (tx == TILE - 1)
        tile[ty][TILE] = c[y * n + min(x + 1, n - 1)];
    barrier(CLK_LOCAL_MEM_FENCE);
    image[at] += 0.25f * lambda * (tile[ty][tx] * (dn[at] + dw[at]) + tile[ty + 1][tx] * ds[at] +
                                   tile[ty][tx + 1] * de[at]);
}
