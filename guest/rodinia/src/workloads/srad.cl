/* Speckle-reducing diffusion. The image is an array; the neighbours of a row and of a column are
 * looked up in tables. */
#define GROUP 256

__kernel void extract(__global float *image, uint count)
{
    uint i = get_global_id(0);

    if (i < count)
        image[i] = exp(image[i] / 255.0f);
}

__kernel void prepare(__global const float *image, __global float *sums, __global float *squares,
                      uint count)
{
    uint i = get_global_id(0);

    if (i < count) {
        sums[i] = image[i];
        squares[i] = image[i] * image[i];
    }
}

/* A sum per group. */
__kernel void reduce(__global const float *sums, __global const float *squares,
                     __global float *out_sums, __global float *out_squares, uint count)
{
    __local float sum[GROUP];
    __local float square[GROUP];
    uint t = get_local_id(0), i = get_global_id(0);

    sum[t] = i < count ? sums[i] : 0.0f;
    square[t] = i < count ? squares[i] : 0.0f;
    for (uint half_of = GROUP / 2; half_of > 0; half_of /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < half_of) {
            sum[t] += sum[t + half_of];
            square[t] += square[t + half_of];
        }
    }
    if (t == 0) {
        out_sums[get_group_id(0)] = sum[0];
        out_squares[get_group_id(0)] = square[0];
    }
}

__kernel void coefficients(__global const float *image, __global const uint *north,
                           __global const uint *south, __global const uint *west,
                           __global const uint *east, __global float *dn, __global float *ds,
                           __global float *dw, __global float *de, __global float *c,
                           uint width, uint count, float q0)
{
    uint i = get_global_id(0), x = i % width, y = i / width;
    float here, n, s, w, e, gradient, laplacian, numerator, denominator, q;

    if (i >= count)
        return;
    here = image[i];
    n = image[north[y] * width + x] - here;
    s = image[south[y] * width + x] - here;
    w = image[y * width + west[x]] - here;
    e = image[y * width + east[x]] - here;
    gradient = (n * n + s * s + w * w + e * e) / (here * here);
    laplacian = (n + s + w + e) / here;
    numerator = 0.5f * gradient - laplacian * laplacian / 16.0f;
    denominator = 1.0f + 0.25f * laplacian;
    q = numerator / (denominator * denominator);
    dn[i] = n;
    ds[i] = s;
    dw[i] = w;
    de[i] = e;
    c[i] = clamp(1.0f / (1.0f + (q - q0) / (q0 * (1.0f + q0))), 0.0f, 1.0f);
}

__kernel void update(__global float *image, __global const uint *south, __global const uint *east,
                     __global const float *dn, __global const float *ds, __global const float *dw,
                     __global const float *de, __global const float *c, uint width, uint count,
                     float lambda)
{
    uint i = get_global_id(0), x = i % width, y = i / width;

    if (i >= count)
        return;
    image[i] += 0.25f * lambda * (c[i] * (dn[i] + dw[i]) + c[south[y] * width + x] * ds[i] +
                                  c[y * width + east[x]] * de[i]);
}

__kernel void compress(__global float *image, uint count)
{
    uint i = get_global_id(0);

    if (i < count)
        image[i] = log(image[i]) * 255.0f;
}
