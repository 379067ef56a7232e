/* Each step needs the one before it, so the loop cannot be shortened by vectors. */
__kernel void long_loop(__global uint *out, uint seed, uint steps)
{
    uint x = seed ^ (uint)get_global_id(0);

    for (uint i = 0; i < steps; i++)
        x = x * 1664525u + 1013904223u;
    out[get_global_id(0)] = x;
}
