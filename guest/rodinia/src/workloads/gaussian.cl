/* Forward elimination, two launches a column: the multipliers of the rows below the pivot, then
 * the rows. */

__kernel void multipliers(__global const float *a, __global float *m, uint n, uint pivot)
{
    uint row = get_global_id(0) + pivot + 1;

    if (row < n)
        m[row] = a[row * n + pivot] / a[pivot * n + pivot];
}

__kernel void eliminate(__global float *a, __global float *b, __global const float *m, uint n,
                        uint pivot)
{
    uint column = get_global_id(0) + pivot, row = get_global_id(1) + pivot + 1;

    if (row >= n || column >= n)
        return;
    a[row * n + column] -= m[row] * a[pivot * n + column];
    if (column == pivot)
        b[row] -= m[row] * b[pivot];
}
