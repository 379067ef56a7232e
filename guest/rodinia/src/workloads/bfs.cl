/* Breadth-first search, a level per pair of launches: expand visits the frontier's neighbours,
 * advance makes those the frontier and says whether there are any. */

__kernel void expand(__global const uint *first, __global const uint *edges,
                     __global uchar *frontier, __global uchar *next,
                     __global const uchar *visited, __global int *cost, uint nodes)
{
    uint node = get_global_id(0);

    if (node >= nodes || !frontier[node])
        return;
    frontier[node] = 0;
    for (uint i = first[node]; i < first[node + 1]; i++) {
        uint neighbour = edges[i];
        if (!visited[neighbour]) {
            cost[neighbour] = cost[node] + 1;
            next[neighbour] = 1;
        }
    }
}

__kernel void advance(__global uchar *frontier, __global uchar *next, __global uchar *visited,
                      __global int *again, uint nodes)
{
    uint node = get_global_id(0);

    if (node >= nodes || !next[node])
        return;
    frontier[node] = 1;
    visited[node] = 1;
    next[node] = 0;
    *again = 1;
}
