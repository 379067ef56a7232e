/* Distance of each place from the one asked for, in degrees as on a flat map. */
__kernel void distances(__global const float2 *places, __global float *distance, uint count,
                        float latitude, float longitude)
{
    uint i = get_global_id(0);

    if (i < count) {
        float2 d = (float2)(latitude, longitude) - places[i];
        distance[i] = sqrt(d.x * d.x + d.y * d.y);
    }
}
