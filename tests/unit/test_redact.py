"""What a command line shows in our files: secrets never, everything else as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.redact import HIDDEN, redact

HF = "hf_" + "a1" * 10
HIDES = [
    (["train", "--token", "abc"], ["train", "--token", "***"]),
    (["train", "--hf-token", "abc", "--lr", "1"], ["train", "--hf-token", "***", "--lr", "1"]),
    (["train", "--token=abc"], ["train", "--token=***"]),
    (["train", "--token=a=b"], ["train", "--token=***"]),
    (["train", "--password", "-abc"], ["train", "--password", "***"]),
    (["train", "-api_key", "abc"], ["train", "-api_key", "***"]),
    (["env", "WANDB_API_KEY=abc", "train"], ["env", "WANDB_API_KEY=***", "train"]),
    (["env", "AWS_SECRET_ACCESS_KEY=abc"], ["env", "AWS_SECRET_ACCESS_KEY=***"]),
    (["hydra", "logger.auth=abc"], ["hydra", "logger.auth=***"]),
    (["login", HF], ["login", "***"]),
    (["train", f"model={HF},x"], ["train", "model=***,x"]),
    (["x", "sk-" + "k" * 20], ["x", "***"]),
    (["x", "ghp_" + "k" * 30], ["x", "***"]),
    (["x", "AKIA" + "K" * 16], ["x", "***"]),
    (["x", "xoxb-1234567890-abc"], ["x", "***"]),
    (["x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln"], ["x", "***"]),
    (["git", "clone", "https://me:pw@host/repo"], ["git", "clone", "https://me:***@host/repo"]),
    (["x", "redis://:pw@host"], ["x", "redis://:***@host"]),
    (["curl", "https://host/x?token=abc&n=1"], ["curl", "https://host/x?token=***"]),
    (["curl", "https://host/x?n=1&token=abc&m=2"], ["curl", "https://host/x?n=1&token=***&m=2"]),
    (["curl", "-H", "Authorization: Bearer abcdef0123"], ["curl", "-H", "Authorization: Bearer ***"]),
    (["sh", "-c", "A=1 WANDB_API_KEY=abc train"], ["sh", "-c", "A=1 WANDB_API_KEY=*** train"]),
    (["sh", "-c", "A=1; TOKEN='a b' train"], ["sh", "-c", "A=1; TOKEN=*** train"]),
    (["sh", "-c", "export TOKEN=abc; train"], ["sh", "-c", "export TOKEN=***"]),
]
HIDES += [
    (["t", '{"api_key": "a b", "lr": 1}'], ["t", '{"api_key": ***, "lr": 1}']),
    (["t", '{"api_key":"a\\"b"}'], ["t", '{"api_key":***}']),
    (["t", "{'token': 'abc'}"], ["t", "{'token': ***}"]),
    (["sh", "-c", 'x "{\\"token\\": \\"a b\\"}"'], ["sh", "-c", 'x "{\\"token\\": ***}"']),
    (["t", "lr: 1\nhf_token: abc\nx: 2"], ["t", "lr: 1\nhf_token: ***\nx: 2"]),
    (["t", "hf_token:abc"], ["t", "hf_token:***"]),
    (["t", "auth: Basic abc"], ["t", "auth: ***"]),
    (["curl", "-H", "Authorization: Basic dTpw"], ["curl", "-H", "Authorization: Basic ***"]),
    (["curl", "-H", "authorization: abc"], ["curl", "-H", "authorization: ***"]),
    (
        ["curl", "-H", 'Authorization: Digest username="u", response="abc"'],
        ["curl", "-H", "Authorization: ***"],
    ),
    (["t", '{"Authorization": "Bearer a"}'], ["t", '{"Authorization": "Bearer ***"}']),
    (["curl", "-u", "me:pw", "x"], ["curl", "-u", "me:***", "x"]),
    (["curl", "--user", "me:p w"], ["curl", "--user", "me:***"]),
    (["curl", "--proxy-user=me:pw"], ["curl", "--proxy-user=me:***"]),
    (["curl", "-ume:pw"], ["curl", "-ume:***"]),
    (["sh", "-c", "curl -u 'me:pw' x"], ["sh", "-c", "curl -u 'me:***' x"]),
    (["t", "--wandb_key", "X"], ["t", "--wandb_key", "***"]),
    (["t", "--wandb-key=X"], ["t", "--wandb-key=***"]),
    (["t", "--token", "--a1B"], ["t", "--token", "***"]),
    (["t", "--token", "---"], ["t", "--token", "***"]),
]
KEEPS = [
    ["docker", "run", "-u", "1000:1000", "image"],
    ["python", "-u", "train.py", "--key", "loss", "--key=loss"],
    ["get", "-u", "https://host/path"],
    ["t", "--token", "--log-dir=x", "--token", "--"],
    ["t", "time: 12:30", "{'monkey': 'a'}", "a:b"],
    ["python", "train.py", "--lr", "1e-4", "--batch-size=32"],
    ["train", "--max-tokens", "4096", "--num_tokens=300B"],
    ["train", "--tokenizer", "llama", "--tokenizer=llama"],
    ["train", "--author", "me", "--passes", "3", "--keyboard=us"],
    ["train", "https://host:8080/path", "user@host"],
    ["train", "a token", "next"],
    ["train", "--label", "basic training"],
    ["train", "", "=", "--", "-"],
]


@pytest.mark.parametrize(("command", "shown"), HIDES, ids=lambda c: " ".join(c)[:40])
def test_hides(command, shown):
    assert redact(command) == shown


@pytest.mark.parametrize("command", KEEPS, ids=lambda c: " ".join(c)[:40])
def test_keeps(command):
    assert redact(command) == command


def test_an_option_after_a_secret_option_is_shown():
    assert redact(["train", "--token", "--verbose", "yes"]) == ["train", "--token", "--verbose", "yes"]


@given(st.lists(st.text()))
def test_any_command_keeps_its_length_and_is_not_changed(command):
    before = list(command)
    assert len(redact(command)) == len(command)
    assert command == before


@given(st.sampled_from(["--token", "--password", "API_KEY"]), st.text(min_size=1).filter(lambda s: s[:2] != "--"))
def test_any_value_of_a_secret_name_is_hidden(name, value):
    assert redact([f"{name}={value}"]) == [f"{name}={HIDDEN}"]
    if name.startswith("-"):
        assert redact([name, value]) == [name, HIDDEN]
