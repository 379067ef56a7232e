/* What opening a centre at the point x would change, for every point. A point that is nearer to x
 * than to its own centre would move, and saves; another one would only move when its centre
 * closes, and costs. A row of `change` is a point's: a column per centre, and one for savings. */
__kernel void gain(__global const float *coordinates, __global const float *weight,
                   __global const float *cost, __global const uint *centre,
                   __global float *change, __global uchar *moves, __local float *candidate,
                   uint count, uint dimensions, uint centres, uint x)
{
    uint i = get_global_id(0);
    __global float *row = change + i * (centres + 1);
    float distance = 0, there;

    for (uint d = get_local_id(0); d < dimensions; d += get_local_size(0))
        candidate[d] = coordinates[d * count + x];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (i >= count)
        return;
    for (uint d = 0; d < dimensions; d++) {
        float difference = coordinates[d * count + i] - candidate[d];
        distance += difference * difference;
    }
    there = distance * weight[i];
    for (uint k = 0; k <= centres; k++)
        row[k] = 0;
    moves[i] = there < cost[i];
    if (moves[i])
        row[centres] = cost[i] - there;
    else
        row[centre[i]] = there - cost[i];
}
