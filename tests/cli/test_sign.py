from __future__ import annotations

from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.cli import main

FILE = "manifest.sig"


def test_keys_signatures_and_devices_that_ask_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    key = str(tmp_path / "k")
    (tmp_path / "pass").write_text("correct horse\n")
    assert main(["keygen", key, "--passphrase", str(tmp_path / "pass")]) == 0
    assert main(["sign", str(bundle), "--key", f"{key}.key", "--as-version", "2"]) == 2
    options = ["--key", f"{key}.key", "--as-version", "2", "--passphrase", str(tmp_path / "pass")]
    assert main(["sign", str(bundle), *options]) == 0
    assert "signed as version 2" in capsys.readouterr().out
    assert main(["verify", str(bundle), "--key", f"{key}.pub", "--min-version", "2"]) == 0
    assert "signed as version 2" in capsys.readouterr().out
    assert main(["verify", str(bundle), "--key", f"{key}.pub", "--min-version", "3"]) == 7
    assert "error[signature-old]" in capsys.readouterr().err
    (bundle / FILE).unlink()
    assert main(["predict", str(bundle), "absent.png", "--key", f"{key}.pub"]) == 7
    assert "error[signature-missing]" in capsys.readouterr().err
    assert main(["sign", str(bundle), "--key", f"{key}.key", "--as-version", "2", "--passphrase", "absent"]) == 2
    assert "error[key-passphrase]" in capsys.readouterr().err


def test_signatures_for_other_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    key = str(tmp_path / "k")
    assert main(["keygen", key, "--format", "oms"]) == 0
    assert "model_signing verify key" in capsys.readouterr().out
    assert main(["sign", str(bundle), "--format", "oms", "--key", f"{key}.key"]) == 0
    assert capsys.readouterr().out.startswith(f"{bundle / 'model.sig'}: 5 files signed with the key ")
    assert main(["verify", str(bundle)]) == 0
    capsys.readouterr()
    assert main(["sign", str(bundle), "--format", "oms", "--key", f"{key}.key", "--as-version", "1"]) == 2
    assert "error[oms-version]" in capsys.readouterr().err
    assert main(["sign", str(bundle), "--key", f"{key}.key"]) == 2
    assert "error[missing-argument]" in capsys.readouterr().err
