__kernel void nop(void)
{
}
