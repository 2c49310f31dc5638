"""Writes mlp.onnx beside this file: the perceptron of the drift pipeline, 3 -> 16 -> 1 logit.

Made with Python 3.11, torch 2.15.0, onnx 1.23.2 and onnxscript 0.7.2. The seed fixes the initial weights.
"""

from pathlib import Path

import onnx
import torch

torch.manual_seed(42)
model = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)).eval()
program = torch.onnx.export(
    model,
    (torch.zeros(2, 3),),
    opset_version=18,
    input_names=["x"],
    output_names=["logit"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
)
proto = program.model_proto
# The exporter's notes hold stack traces of the machine that it ran on.
for noted in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
    noted.ClearField("metadata_props")
onnx.checker.check_model(proto, full_check=True)
onnx.save(proto, Path(__file__).with_name("mlp.onnx"))
