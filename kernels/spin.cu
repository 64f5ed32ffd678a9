// Keeps the device busy for so many cycles of a multiprocessor, while the host queues what is to be timed
// grid (1), 32 threads. Ends in any case: after as many looks at the clock, should that stand still.
extern "C" __global__ void __launch_bounds__(32)
spin(int cycles) {
    LENGTH(0, cycles);
    begin();
    const long long start = clock64();
    for (int look = 0; look < cycles && clock64() - start < cycles; ++look) {}
}
