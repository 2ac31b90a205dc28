"""What doctor says can be pasted into an issue: no name of a user or host survives."""

import os
import pwd
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.anonymous import anonymise
from satscore.run.diagnosis import CANDIDATES, diagnose, names_here


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GPU-0123abcd-1111-2222-3333-444455556666 is lost", "GPU-0123abcd is lost"),
        ("a slice (MIG-0123abcd-1111-2222-3333-444455556666)", "a slice (MIG-0123abcd)"),
        ("MIG-GPU-0123abcd-1111-2222-3333-444455556666/1/0", "MIG-GPU-0123abcd/1/0"),
        ("CUDA_VISIBLE_DEVICES='2,3' shows", "CUDA_VISIBLE_DEVICES=... shows"),
        ("set NVreg_RestrictProfilingToAdminUsers=0", "set NVreg_RestrictProfilingToAdminUsers=0"),
        ("cannot write in /home/alice/runs: full", "cannot write in ~/runs: full"),
        ("MIG-GPU-0123ABCD-1111 in node 0123abcd-1111-2222-3333-444455556666", "MIG-GPU-0123ABCD in node 0123abcd"),
        ("in /home/alice2 and /home/alice", "in /home/... and ~"),
        ("/capstor/Users/bob/x and '/users/carol'", "/capstor/Users/.../x and '/users/...'"),
        ("/scratch/alice/lib.so, /scratch/node7", "/scratch/.../lib.so, /scratch/..."),
        ("runs/alice/x, runs_alice/readings-node7-0.arrows", "runs/.../x, runs_.../readings-...-0.arrows"),
        ("power of Alice on node7.example.org, malice", "power of ... on ..., malice"),
        ("set a homes limit in /home", "set a homes limit in /home"),
    ],
)
def test_anonymise(text, shown):
    assert anonymise(text, "/home/alice", ("alice", "node7", "node7.example.org", "")) == shown


@given(st.text(alphabet="/ab ~.", max_size=20), st.text(alphabet="ab", min_size=1, max_size=3))
def test_no_home_directory_survives_anonymise(text, name):
    assert f"/home/{name}/" not in anonymise(f"{text}/home/{name}/{text}", f"/home/{name}", [name])


NAME = st.from_regex(r"[a-zA-Z0-9é](?:[._-]?[a-zA-Z0-9é]){0,5}", fullmatch=True)
BOUND = st.text(alphabet=st.characters().filter(lambda c: not c.isalnum()), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.lists(NAME, min_size=1, max_size=3), BOUND, st.text(max_size=8), st.sampled_from(["/home/x", "/a", ""]))
def test_no_name_survives_as_a_word(names, bound, text, home):
    pieces = [piece for name in names for piece in (bound, name, bound, text)]
    shown = anonymise("".join(pieces), home, names)
    for name in names:
        assert not re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", shown)


def test_names_come_from_environment_and_system(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "node7.example.org")
    own = pwd.getpwuid(os.getuid()).pw_name
    environ = {"USER": "alice", "LOGNAME": "bob", "SLURM_JOB_USER": "carol", "HOME": "/users/dave/"}
    names = {"alice", "bob", "carol", "dave", "node7.example.org", "node7", own}
    assert names_here(environ) == names - {"root"}
    assert names_here({"HOME": "/root"}) == {"node7.example.org", "node7", own} - {"root"}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("user", ["gpm", "yes", "sim", "measured", "power"])
def test_a_user_with_one_of_our_words_for_a_name_can_ask(user):
    found = diagnose("abacus", None, {"USER": user})
    assert [source.name for source in found.sources] == [candidate.name for candidate in CANDIDATES]
