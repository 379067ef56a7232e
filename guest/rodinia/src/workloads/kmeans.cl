/* transpose lays the features out so that neighbouring work-items read neighbouring words; assign
 * finds each point's nearest centre. */

__kernel void transpose(__global const float *points, __global float *features, uint count,
                        uint dimensions)
{
    uint point = get_global_id(0);

    if (point >= count)
        return;
    for (uint d = 0; d < dimensions; d++)
        features[d * count + point] = points[point * dimensions + d];
}

__kernel void assign(__global const float *features, __global const float *centres,
                     __global int *membership, uint count, uint dimensions, uint clusters)
{
    uint point = get_global_id(0);
    float least = FLT_MAX;
    int nearest = 0;

    if (point >= count)
        return;
    for (uint c = 0; c < clusters; c++) {
        float distance = 0;
        for (uint d = 0; d < dimensions; d++) {
            float difference = features[d * count + point] - centres[c * dimensions + d];
            distance += difference * difference;
        }
        if (distance < least) {
            least = distance;
            nearest = c;
        }
    }
    membership[point] = nearest;
}
