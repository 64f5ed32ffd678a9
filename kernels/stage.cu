// The numbers of a call, from pinned memory of the host to where the kernels read them, and the word that they
// were taken: the host may then write the next ones, whether or not it waits for the step.
// slot, of the host: the count of what was written there, the count of what was taken, then `size` numbers, of
// which the last `batch` are tokens of a step; a token of -1 is the one that argmax left in `chosen` [batch]
// grid (1), 256 threads. Bytes: size · 4 over the bus, a few dozen in a step: the floor is one trip.
extern "C" __global__ void __launch_bounds__(256)
stage(int* slot, const int* chosen, int* call, int size, int batch) {
    LENGTH(0, size);
    LENGTH(1, batch);
    begin();
    volatile int* from = slot; // nothing of an earlier launch's
    const int written = from[0]; // on its way with the numbers
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        const int number = from[2 + i];
        call[i] = number < 0 ? chosen[i - (size - batch)] : number;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    __threadfence_system();
    from[1] = written;
}
