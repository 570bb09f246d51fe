"""TensorRT and CUDA's runtime library asked directly, without ONNX Runtime. Experimental.

What this gains over ONNX Runtime's TensorRT provider has not been measured: no machine with a GPU
was at hand, and its calls are tested against a stand-in.
"""
