"""The official OpenAI client against the OpenAI routes of the platform, with a worker that speaks the OpenAI API."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from conftest import DEADLINE, eventually

WORDS = [{"role": "user", "content": "to be or not"}]
KEY = "secret"
pytestmark = pytest.mark.parametrize("platform", [("--api-key", KEY)], indirect=True)


@pytest.fixture
def client(platform, ours):
    ours("podwork-test-worker", "openai")
    base_url = f"{platform.url}/v2/local/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=DEADLINE) as client:
        yield client


def chat(client, content, **options):
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model="parrot", messages=messages, **options)


def words(stream):
    return "".join(event.choices[0].delta.content or "" for event in stream)


def test_models_chat_and_embeddings(client):
    assert [model.id for model in client.models.list()] == ["parrot", "broken"]
    answer = chat(client, "to be or not")
    assert answer.choices[0].message.content == "to be or not"
    assert answer._request_id.startswith("sync-")
    assert words(chat(client, "to be or not", stream=True)) == "to be or not"
    found = client.embeddings.create(model="parrot", input=["a", "b"], encoding_format="float")
    assert [one.embedding for one in found.data] == [[0.5, -0.25]] * 2


def test_tool_calls_are_passed_on(client):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    answer = chat(client, "here", tools=[tool])
    assert answer.choices[0].message.tool_calls[0].function.name == "look"


def test_errors_have_the_classes_of_the_client(client):
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="missing", messages=WORDS)
    with pytest.raises(openai.InternalServerError, match="does not fit"):
        client.chat.completions.create(model="broken", messages=WORDS, stream=True)
    with pytest.raises(openai.APIError, match="the model broke"):
        words(chat(client, "one break", stream=True))
    with pytest.raises(openai.AuthenticationError, match="API key"):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.APIStatusError) as refused:
        client.audio.transcriptions.create(model="parrot", file=b"RIFF")
    assert refused.value.status_code == 415


def test_a_client_that_gives_up_cancels_its_job(platform, client):
    def in_progress():
        health = httpx.get(f"{platform.url}/health", headers={"Authorization": KEY})
        return health.json()["jobs"]["inProgress"]

    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=2), "wait")
    eventually(lambda: in_progress() == 0, "the job of the client that timed out is cancelled")
    with chat(client, "one wait", stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content == "one "
        assert in_progress() == 1
    eventually(lambda: in_progress() == 0, "the job of the client that closed its stream is cancelled")


def test_fifty_streams_at_once(client):
    texts = [f"this is stream number {n}" for n in range(50)]
    with ThreadPoolExecutor(50) as threads:
        said = list(threads.map(lambda text: words(chat(client, text, stream=True)), texts))
    assert said == texts
