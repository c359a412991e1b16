"""Where the package lies and how it is started."""

import os
import zipapp

from agents.platform.own_program import interpreter_arguments, location, own_archive


def test_the_program_is_the_archive_or_the_package(tmp_path):
    assert interpreter_arguments(location()) == ["-m", "agents"]
    assert own_archive() is None
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "__main__.py").write_text("pass")
    archive = str(tmp_path / "agent.pyz")
    zipapp.create_archive(str(folder), archive)
    assert interpreter_arguments(archive) == [archive]
    assert location(os.path.join(archive, "agents", "__init__.py")) == archive
