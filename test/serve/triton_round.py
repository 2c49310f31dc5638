"""Does tritonclient's ordinary round against a server: HTTP_ADDRESS GRPC_ADDRESS. Prints a line for each check."""

import queue
import sys
import traceback

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

TENSORS = {
    "fp32": ("FP32", np.array([[0.5, -1.25, 3e38], [0, 1, -0.0]], np.float32)),
    "fp64": ("FP64", np.array([[0.1, -1e300, 2], [3, 4, 5]], np.float64)),
    "fp16": ("FP16", np.array([[0.5, -2, 65504], [1, 2, 3]], np.float16)),
    "int32": ("INT32", np.array([[-(2**31), 2**31 - 1, 0], [1, 2, 3]], np.int32)),
    "int64": ("INT64", np.array([[-(2**63), 2**63 - 1, 0], [2**53 + 1, 2, 3]], np.int64)),
    "uint8": ("UINT8", np.array([[0, 255, 7], [1, 2, 3]], np.uint8)),
    "bool": ("BOOL", np.array([[True, False, True], [False, False, True]])),
    "bytes": ("BYTES", np.array([["", "a", "zwei"], ["日本", "x" * 300, "\n"]], dtype=object)),
}
# Numbers of JSON are doubles to the server: it refuses larger ones rather than round them.
IN_JSON = {**TENSORS, "int64": ("INT64", np.array([[-(2**53) + 1, 2**53 - 1, 0], [1, 2, 3]], np.int64))}
CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}


class Http:
    name = "http"

    def __init__(self, address):
        self.client = over_http.InferenceServerClient(address, concurrency=4)

    def input(self, name, datatype, values, binary=True):
        tensor = over_http.InferInput(name, list(values.shape), datatype)
        return tensor.set_data_from_numpy(values, binary_data=binary)

    def output(self, name, binary=True):
        return over_http.InferRequestedOutput(name, binary_data=binary)

    def failure(self, status):
        return str(status)

    def compression(self, algorithm):
        return {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}

    def later(self, model, inputs):
        pending = [self.client.async_infer(model, inputs) for _ in range(8)]
        return [one.get_result(timeout=20) for one in pending]

    def version(self, result):
        return result.get_response()["model_version"]

    def id(self, result):
        return result.get_response()["id"]

    def weights(self, result):
        return result.get_response()["parameters"]["version"]

    def server_metadata(self):
        return self.client.get_server_metadata()

    def metadata(self, model):
        return self.client.get_model_metadata(model)

    def config(self, model):
        return self.client.get_model_config(model)

    def statistics(self, model):
        return self.client.get_inference_statistics(model)["model_stats"][0]

    def index(self):
        return self.client.get_model_repository_index()


class Grpc:
    name = "grpc"

    def __init__(self, address):
        self.client = over_grpc.InferenceServerClient(address)

    def input(self, name, datatype, values, binary=True):
        return over_grpc.InferInput(name, list(values.shape), datatype).set_data_from_numpy(values)

    def output(self, name, binary=True):
        return over_grpc.InferRequestedOutput(name)

    def failure(self, status):
        return f"StatusCode.{CODES[status]}"

    def compression(self, algorithm):
        return {"compression_algorithm": algorithm}

    def later(self, model, inputs):
        done = queue.Queue()
        for _ in range(8):
            self.client.async_infer(model, inputs, callback=lambda result, error: done.put((result, error)))
        pairs = [done.get(timeout=20) for _ in range(8)]
        assert all(error is None for _, error in pairs), pairs
        return [result for result, _ in pairs]

    def version(self, result):
        return result.get_response().model_version

    def id(self, result):
        return result.get_response().id

    def weights(self, result):
        return result.get_response().parameters["version"].int64_param

    def server_metadata(self):
        return self.client.get_server_metadata(as_json=True)

    def metadata(self, model):
        return self.client.get_model_metadata(model, as_json=True)

    def config(self, model):
        return self.client.get_model_config(model, as_json=True)["config"]

    def statistics(self, model):
        return self.client.get_inference_statistics(model, as_json=True)["model_stats"][0]

    def index(self):
        return self.client.get_model_repository_index(as_json=True)["models"]


def same(result, tensors=TENSORS):
    for name, (_, expected) in tensors.items():
        got = result.as_numpy(f"{name}_out")
        assert got is not None, f"{name}_out is missing"
        if expected.dtype == object:
            got = np.array([[v.decode() if isinstance(v, bytes) else v for v in row] for row in got], dtype=object)
        else:
            assert got.dtype == expected.dtype, (name, got.dtype)
        assert got.shape == expected.shape, (name, got.shape)
        assert (got == expected).all(), (name, got)


class Round:
    """What an ordinary client does, in this order; each public method is a check."""

    def __init__(self, way):
        self._way = way
        self._client = way.client
        self._x = np.ones((2, 4), np.float32)
        self._everything = [way.input(name, *tensor) for name, tensor in TENSORS.items()]

    def _linear(self, values=None, datatype="FP32", **options):
        values = self._x if values is None else values
        return self._client.infer("linear", [self._way.input("x", datatype, values)], **options)

    def _fails(self, status, word, call):
        try:
            call()
        except InferenceServerException as error:
            assert error.status() == self._way.failure(status), (error.status(), str(error))
            assert word in error.message(), error.message()
        else:
            raise AssertionError("expected an InferenceServerException, got none")

    def live(self):
        assert self._client.is_server_live() is True

    def ready(self):
        assert self._client.is_server_ready() is True
        assert self._client.is_model_ready("linear") is True

    def server_metadata(self):
        metadata = self._way.server_metadata()
        assert metadata["name"] == "rxgrad" and metadata["version"], metadata

    def model_metadata(self):
        metadata = self._way.metadata("everything")
        assert metadata["name"] == "everything" and len(metadata["versions"]) >= 1, metadata
        found = {tensor["name"]: tensor for tensor in metadata["inputs"]}
        for name, (datatype, _) in TENSORS.items():
            assert found[name]["datatype"] == datatype, found[name]
            assert [int(dim) for dim in found[name]["shape"]] == [-1, 3], found[name]
        assert {tensor["name"] for tensor in metadata["outputs"]} >= {f"{name}_out" for name in TENSORS}

    def config(self):
        config = self._way.config("everything")
        assert config["name"] == "everything", config
        found = {tensor["name"]: tensor for tensor in config["input"]}
        assert found["bytes"]["data_type"] == "TYPE_STRING", found
        assert found["fp32"]["data_type"] == "TYPE_FP32", found

    def statistics(self):
        assert self._way.statistics("linear")["name"] == "linear"

    def repository_index(self):
        assert {model["name"] for model in self._way.index()} == {"everything", "linear"}

    def every_type_in_binary(self):
        same(self._client.infer("everything", self._everything))

    def every_type_in_json(self):
        # tritonclient itself takes halves in binary only.
        inputs = [self._way.input(name, *tensor, binary=name == "fp16") for name, tensor in IN_JSON.items()]
        outputs = [self._way.output(f"{name}_out", binary=name == "fp16") for name in TENSORS]
        same(self._client.infer("everything", inputs, outputs=outputs), IN_JSON)

    def answers_in_json(self):
        outputs = [self._way.output(f"{name}_out", binary=name == "fp16") for name in TENSORS]
        same(self._client.infer("everything", self._everything, outputs=outputs))

    def requested_outputs(self):
        outputs = [self._way.output("int64_out"), self._way.output("bytes_out")]
        result = self._client.infer("everything", self._everything, outputs=outputs)
        same(result, {name: TENSORS[name] for name in ("int64", "bytes")})
        assert result.as_numpy("fp32_out") is None

    def request_id(self):
        assert self._way.id(self._linear(request_id="number 7")) == "number 7"

    def parameters(self):
        result = self._linear(parameters={"kind": "test", "limit": 3, "loud": True})
        assert int(self._way.version(result)) == int(self._way.weights(result))

    def version_of_the_answer(self):
        version = self._way.version(self._linear())
        assert self._way.version(self._linear(model_version=version)) == version

    def gzip(self):
        same(self._client.infer("everything", self._everything, **self._way.compression("gzip")))

    def deflate(self):
        same(self._client.infer("everything", self._everything, **self._way.compression("deflate")))

    def asynchronous(self):
        for result in self._way.later("everything", self._everything):
            same(result)

    def empty_batch(self):
        assert self._linear(np.ones((0, 4), np.float32)).as_numpy("y").shape == (0, 2)

    def wrong_shape(self):
        self._fails(400, "x", lambda: self._linear(np.ones((2, 5), np.float32)))

    def wrong_rank(self):
        self._fails(400, "x", lambda: self._linear(np.ones(4, np.float32)))

    def wrong_type(self):
        self._fails(400, "x", lambda: self._linear(np.ones((2, 4), np.float64), "FP64"))

    def missing_input(self):
        self._fails(400, "fp32", lambda: self._client.infer("everything", self._everything[1:]))

    def surplus_input(self):
        two = [self._way.input("x", "FP32", self._x), self._way.input("z", "FP32", self._x)]
        self._fails(400, "z", lambda: self._client.infer("linear", two))

    def unknown_output(self):
        self._fails(400, "nothing", lambda: self._linear(outputs=[self._way.output("nothing")]))

    def unknown_model(self):
        inputs = [self._way.input("x", "FP32", self._x)]
        self._fails(404, "nobody", lambda: self._client.infer("nobody", inputs))
        self._fails(404, "nobody", lambda: self._way.metadata("nobody"))

    def unknown_version(self):
        self._fails(404, "999999", lambda: self._linear(model_version="999999"))

    def unknown_model_is_not_ready(self):
        try:
            assert self._client.is_model_ready("nobody") is False
        except InferenceServerException as error:
            assert error.status() == self._way.failure(404), error.status()

    def still_there(self):
        assert self._linear().as_numpy("y").shape == (2, 2)


class GrpcRound(Round):
    def stream(self):
        done = queue.Queue()
        inputs = [self._way.input("x", "FP32", self._x)]
        self._client.start_stream(callback=lambda result, error: done.put((result, error)))
        for number in range(3):
            self._client.async_stream_infer("linear", inputs, request_id=str(number))
        self._client.async_stream_infer("nobody", inputs)
        pairs = [done.get(timeout=20) for _ in range(4)]
        self._client.stop_stream()
        assert [self._way.id(result) for result, error in pairs if error is None] == ["0", "1", "2"], pairs
        errors = [error for _, error in pairs if error is not None]
        assert len(errors) == 1 and "nobody" in str(errors[0]), errors


def main(http_address, grpc_address):
    failed = False
    for a_round in (Round(Http(http_address)), GrpcRound(Grpc(grpc_address))):
        for name in [name for kind in reversed(type(a_round).__mro__) for name in vars(kind) if not name.startswith("_")]:
            check = f"{a_round._way.name} {name}"
            try:
                getattr(a_round, name)()
                print(f"ok {check}", flush=True)
            except Exception:
                failed = True
                print(f"failed {check}: {traceback.format_exc(limit=2)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
