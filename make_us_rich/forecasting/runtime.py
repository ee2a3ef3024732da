"""An ONNX graph opened for inference, the same way wherever a model runs."""

from __future__ import annotations

import os

import onnxruntime


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """On one thread, and from these bytes alone. Raises onnxruntime's errors, which share no base below Exception.

    A graph may say that its weights lie in another file, which ONNX Runtime would look for below the working directory:
    it could read any file there. It looks below a path that can hold none instead, and refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more threads only worsen the slowest answers
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
