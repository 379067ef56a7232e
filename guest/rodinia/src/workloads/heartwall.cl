/* Follows points of a film. A group has a point: it looks for the template in the window around
 * the point's last position, by normalised correlation, and blends what it found into the
 * template. */
#define SIDE 11
#define REACH 5
#define WINDOW (SIDE + 2 * REACH)
#define SHIFTS ((2 * REACH + 1) * (2 * REACH + 1))
#define GROUP 128
#define MEMORY 0.9f

__kernel void track(__global const float *frame, __global float *templates,
                    __global int *positions, int width)
{
    __local float pattern[SIDE * SIDE];
    __local float window[WINDOW * WINDOW];
    __local float best[GROUP];
    __local int best_shift[GROUP];
    int t = get_local_id(0), point = get_group_id(0);
    int x0 = positions[point * 2] - WINDOW / 2, y0 = positions[point * 2 + 1] - WINDOW / 2;
    int dx, dy;
    float mean = 0, energy = 0;

    for (int i = t; i < SIDE * SIDE; i += GROUP)
        pattern[i] = templates[point * SIDE * SIDE + i];
    for (int i = t; i < WINDOW * WINDOW; i += GROUP)
        window[i] = frame[(y0 + i / WINDOW) * width + x0 + i % WINDOW];
    barrier(CLK_LOCAL_MEM_FENCE);

    for (int i = 0; i < SIDE * SIDE; i++)
        mean += pattern[i];
    mean /= SIDE * SIDE;
    for (int i = 0; i < SIDE * SIDE; i++)
        energy += (pattern[i] - mean) * (pattern[i] - mean);

    best[t] = -2.0f;
    best_shift[t] = SHIFTS;
    for (int shift = t; shift < SHIFTS; shift += GROUP) {
        int sx = shift % (2 * REACH + 1), sy = shift / (2 * REACH + 1);
        float sum = 0, squares = 0, product = 0, variance, score;
        for (int y = 0; y < SIDE; y++) {
            for (int x = 0; x < SIDE; x++) {
                float pixel = window[(sy + y) * WINDOW + sx + x];
                sum += pixel;
                squares += pixel * pixel;
                product += pixel * (pattern[y * SIDE + x] - mean);
            }
        }
        variance = squares - sum * sum / (SIDE * SIDE);
        score = product * rsqrt(variance * energy + 1e-12f);
        if (score > best[t]) {
            best[t] = score;
            best_shift[t] = shift;
        }
    }
    for (int half_of = GROUP / 2; half_of > 0; half_of /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < half_of && best[t + half_of] > best[t]) {
            best[t] = best[t + half_of];
            best_shift[t] = best_shift[t + half_of];
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    dx = best_shift[0] % (2 * REACH + 1);
    dy = best_shift[0] / (2 * REACH + 1);
    for (int i = t; i < SIDE * SIDE; i += GROUP) {
        float pixel = window[(dy + i / SIDE) * WINDOW + dx + i % SIDE];
        templates[point * SIDE * SIDE + i] = MEMORY * pattern[i] + (1.0f - MEMORY) * pixel;
    }
    if (t == 0) {
        positions[point * 2] += dx - REACH;
        positions[point * 2 + 1] += dy - REACH;
    }
}
