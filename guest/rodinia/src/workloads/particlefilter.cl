/* Follows a disk through a noisy film with particles: each guesses a position, is weighted by how
 * well the frame fits, and the next guesses are drawn from the weights. */
#define GROUP 128
#define PI 3.14159265f

/* Uniform in (0, 1]. */
float uniform_number(uint *state)
{
    *state = *state * 1664525u + 1013904223u;
    return ((*state >> 8) + 1) * (1.0f / 16777216.0f);
}

float normal_number(uint *state)
{
    float u = uniform_number(state), v = uniform_number(state);
    return sqrt(-2.0f * log(u)) * cos(2.0f * PI * v);
}

__kernel void likelihood(__global const uchar *film, __global const int2 *disk,
                         __global float *x, __global float *y, __global float *weight,
                         __global uint *state, __global float *partial, uint particles,
                         int disk_size, int side, int frame)
{
    __local float sums[GROUP];
    uint i = get_global_id(0), t = get_local_id(0);

    sums[t] = 0;
    if (i < particles) {
        uint s = state[i];
        float fit = 0;
        x[i] += 1.0f + 2.0f * normal_number(&s);
        y[i] += -1.0f + 2.0f * normal_number(&s);
        state[i] = s;
        for (int k = 0; k < disk_size; k++) {
            int px = clamp((int)floor(x[i] + 0.5f) + disk[k].x, 0, side - 1);
            int py = clamp((int)floor(y[i] + 0.5f) + disk[k].y, 0, side - 1);
            float pixel = film[(frame * side + py) * side + px];
            fit += ((pixel - 100.0f) * (pixel - 100.0f) - (pixel - 228.0f) * (pixel - 228.0f));
        }
        weight[i] *= exp(fit / disk_size / 2000.0f);
        sums[t] = weight[i];
    }
    for (uint half_of = GROUP / 2; half_of > 0; half_of /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < half_of)
            sums[t] += sums[t + half_of];
    }
    if (t == 0)
        partial[get_group_id(0)] = sums[0];
}

__kernel void total(__global float *partial, uint groups)
{
    float sum = 0;

    for (uint g = 0; g < groups; g++)
        sum += partial[g];
    partial[0] = sum;
}

__kernel void normalise(__global float *weight, __global const float *partial, uint particles)
{
    uint i = get_global_id(0);

    if (i < particles)
        weight[i] /= partial[0];
}

__kernel void cumulate(__global const float *weight, __global float *cumulative, uint particles)
{
    float sum = 0;

    for (uint i = 0; i < particles; i++) {
        sum += weight[i];
        cumulative[i] = sum;
    }
}

__kernel void resample(__global const float *cumulative, __global const float *x,
                       __global const float *y, __global float *new_x, __global float *new_y,
                       __global float *weight, uint particles, float first)
{
    uint i = get_global_id(0), chosen = 0;
    float mark = first + (float)i / particles;

    if (i >= particles)
        return;
    while (chosen < particles - 1 && cumulative[chosen] < mark)
        chosen++;
    new_x[i] = x[chosen];
    new_y[i] = y[chosen];
    weight[i] = 1.0f / particles;
}
