"""What a Python user would serve a model with: FastAPI, uvicorn, orjson and onnxruntime. Prints its address once it listens."""

import socket
import sys

import numpy
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
output = session.get_outputs()[0].name
app = FastAPI()


@app.post("/v2/models/m/infer")
async def infer(request: Request) -> Response:
    given = orjson.loads(await request.body())["inputs"][0]
    x = numpy.asarray(given["data"], numpy.float32).reshape(given["shape"])
    y = session.run(None, {given["name"]: x})[0]
    answer = {"name": output, "datatype": "FP32", "shape": y.shape, "data": y.ravel().tolist()}
    return Response(orjson.dumps({"model_name": "m", "outputs": [answer]}), media_type="application/json")


# With its protocol named, asyncio sends small answers at once, as where uvicorn opens the socket itself.
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(2048)
print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", loop=sys.argv[2], http=sys.argv[3])).run(sockets=[listening])
