"""The processor: policies that Envoy cannot carry out, in a process of ours between two of Envoy's listeners."""
