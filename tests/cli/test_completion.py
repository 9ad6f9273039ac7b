"""The script that completes a command line in a shell."""

import json
import shutil
import subprocess

import pytest

from p2d.cli import main

TAB = (
    "source {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _tyro_p2d; echo ${{COMPREPLY[@]}}"
)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    from p2d.cli import COMMANDS
    from p2d.commands import completion

    file = tmp_path_factory.mktemp("shell") / "p2d.bash"
    file.write_text(completion(COMMANDS, "bash"))
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "completed"), [("p2d dis", "discover"), ("p2d bench ver", "verdicts"), ("p2d run --qui", "--quick")]
)
def test_bash_completes_commands_and_options(script, words, completed):
    command = ["bash", "-c", TAB.format(script=script, words=words)]
    assert completed in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_scripts_of_their_own(shell, capsys):
    main(["completion", shell, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["shell"] == shell and "discover" in told["script"] and "p2d" in told["script"]
