# syntax=docker/dockerfile:1
# A worker: `docker build -t durabletask-worker .`. Put your own program where containers/worker.py is.

FROM python:3.13-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
# The dependencies first: they change less often than the code.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /venv/bin/pip install --require-hashes -r requirements/runtime.txt \
    && python -m pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY durabletask_azure durabletask_azure
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /venv/bin/pip install --no-deps --no-index dist/*.whl

FROM python:3.13-slim-bookworm
# Not root, and nothing it could write to but /tmp.
RUN useradd --system --uid 10001 --no-create-home worker
COPY --from=build /venv /venv
WORKDIR /app
COPY samples/__init__.py samples/
COPY samples/hello samples/hello
COPY containers/worker.py containers/
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
# The exec form: SIGTERM reaches Python itself, which drains. Give it longer to do so than its stop_grace_s (20 s).
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "containers.worker"]
