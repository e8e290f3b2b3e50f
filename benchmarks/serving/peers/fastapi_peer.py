"""What one writes by hand with FastAPI: pydantic checks the record, the model is called in the event loop."""

import os

import uvicorn
from fastapi import FastAPI
from record import Record
from scoring import load

app = FastAPI()
answer = load()


@app.post("/predict")
async def predict(record: Record):
    """One prediction."""
    return answer(record.values())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
