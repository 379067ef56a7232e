/* A layer of HIDDEN units over many inputs. A group multiplies TILE inputs by their weights to
 * every hidden unit, and sums over its inputs in local memory. Row 0 of the weights is the bias. */
#define HIDDEN 16
#define TILE 16

__kernel void layer_forward(__global const float *input, __global const float *weights,
                            __global float *partial)
{
    __local float units[TILE];
    __local float products[TILE][HIDDEN];
    uint tx = get_local_id(0), ty = get_local_id(1);
    uint row = get_global_id(1) + 1;

    if (tx == 0)
        units[ty] = input[row];
    barrier(CLK_LOCAL_MEM_FENCE);
    products[ty][tx] = weights[row * HIDDEN + tx] * units[ty];
    for (uint step = 1; step < TILE; step *= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (ty % (2 * step) == 0)
            products[ty][tx] += products[ty + step][tx];
    }
    if (ty == 0)
        partial[get_group_id(1) * HIDDEN + tx] = products[0][tx];
}

__kernel void adjust_weights(__global const float *delta, __global const float *input,
                             __global float *weights, __global float *previous,
                             float rate, float momentum, uint inputs)
{
    uint column = get_global_id(0), row = get_global_id(1);
    uint at = row * HIDDEN + column;
    float change;

    if (row > inputs)
        return;
    change = rate * delta[column] * input[row] + momentum * previous[at];
    weights[at] += change;
    previous[at] = change;
}
