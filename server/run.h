/* run.h - `retort run`: a network once, from the command line. */
#ifndef SERVER_RUN_H
#define SERVER_RUN_H

/* retort run MODEL.onnx INPUT... [-o OUT.npz] [--export OUT.onnx] [--threads N] [--time SECONDS]
 * Inputs are .npy, IDX (gzipped or not) or ONNX tensors (.pb), in the order of the graph's inputs.
 * Prints one line per output; -o also writes them, --export writes the network as it would be given out,
 * --time repeats the run and prints the median.
 * `argv` starts after "run". Returns the process's exit status. */
int run_main(int argc, char **argv);

#endif
