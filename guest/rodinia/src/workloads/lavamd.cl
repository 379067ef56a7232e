/* Forces between the particles of neighbouring boxes. A group has a box; it loads one neighbour
 * after the other into local memory, and each work-item sums up what acts on its own particles. */
#define PER_BOX 100

__kernel void lavamd(__global const uint *first, __global const uint *neighbours,
                     __global const float4 *position, __global const float *charge,
                     __global float4 *force, float a2)
{
    __local float4 home[PER_BOX];
    __local float4 other[PER_BOX];
    __local float other_charge[PER_BOX];
    uint box = get_group_id(0), item = get_local_id(0), items = get_local_size(0);

    for (uint i = item; i < PER_BOX; i += items) {
        home[i] = position[box * PER_BOX + i];
        force[box * PER_BOX + i] = (float4)(0);
    }
    for (uint k = first[box]; k < first[box + 1]; k++) {
        uint neighbour = neighbours[k];
        for (uint i = item; i < PER_BOX; i += items) {
            other[i] = position[neighbour * PER_BOX + i];
            other_charge[i] = charge[neighbour * PER_BOX + i];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = item; i < PER_BOX; i += items) {
            float4 sum = force[box * PER_BOX + i];
            for (uint j = 0; j < PER_BOX; j++) {
                float3 d = home[i].xyz - other[j].xyz;
                float r2 = home[i].w + other[j].w - dot(home[i].xyz, other[j].xyz);
                float v = exp(-a2 * r2);
                sum.w += other_charge[j] * v;
                sum.xyz += other_charge[j] * (2.0f * v) * d;
            }
            force[box * PER_BOX + i] = sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
