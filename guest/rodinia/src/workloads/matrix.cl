#define ADD(name, T)                                                                            \
__kernel void name(__global const T *a, __global const T *b, __global T *c, uint n)             \
{                                                                                               \
    uint x = get_global_id(0), y = get_global_id(1);                                            \
                                                                                                \
    if (x < n && y < n)                                                                         \
        c[y * n + x] = a[y * n + x] + b[y * n + x];                                             \
}

#define MULTIPLY(name, T)                                                                       \
__kernel void name(__global const T *a, __global const T *b, __global T *c, uint n)             \
{                                                                                               \
    uint x = get_global_id(0), y = get_global_id(1);                                            \
    T sum = 0;                                                                                  \
                                                                                                \
    if (x >= n || y >= n)                                                                       \
        return;                                                                                 \
    for (uint k = 0; k < n; k++)                                                                \
        sum += a[y * n + k] * b[k * n + x];                                                     \
    c[y * n + x] = sum;                                                                         \
}

ADD(madd, int)
ADD(fmadd, float)
MULTIPLY(mmul, int)
MULTIPLY(fmmul, float)
