"""LitServe: one API process and one that has the model."""

import os

import litserve
from record import Record
from scoring import load


class Api(litserve.LitAPI):
    """The model."""

    def setup(self, device):  # noqa: ARG002  LitServe names it
        """Load the model."""
        self.answer = load()

    def decode_request(self, request: Record):
        """The values of a checked record."""
        return request.values()

    def predict(self, values):
        """One prediction."""
        return self.answer(values)

    def encode_response(self, output):
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
