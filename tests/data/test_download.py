"""`svae download`: whole and checked, or an error that says why; nothing half done under a final name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from svae.data import download as download_module
from svae.data.archives import PUBLISHED, Archive
from svae.data.corpora import CORPORA, list_utterances
from svae.data.download import DownloadOptions, download
from svae.data.unpack import unpack
from svae.errors import DataError

NOISE = random.Random(0).randbytes(200_000)


def tar_of(members: dict[str, bytes | tarfile.TarInfo], kind: str = "gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def libritts(subset: str) -> bytes:
    stem = f"LibriTTS/{subset}/19/100/19_100_000001_000000"
    return tar_of({
        "LibriTTS/README.txt": b"read me",
        f"{stem}.wav": NOISE,
        f"{stem}.normalized.txt": b"Good morning.",
    })  # fmt: skip


@pytest.fixture
def publish(monkeypatch, server):
    """Put archives of our own in the place of a corpus'; they are served under the paths of the real ones."""

    def _publish(corpus: str, contents: dict[str, bytes], **changes) -> dict[str, str]:
        published = PUBLISHED[corpus]
        archives = dict(published.archives)
        for subset, data in contents.items():
            archive = published.archives[subset]
            server.files[archive.path] = data
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            archives[subset] = replace(
                archive, **{"size": len(data), "about": len(data), "digest": digest} | changes
            )
        patched = {**download_module.PUBLISHED, corpus: replace(published, archives=archives)}
        monkeypatch.setattr(download_module, "PUBLISHED", patched)
        return {subset: archives[subset].path for subset in contents}

    return _publish


def run(server, to: Path, corpus: str = "libritts", *subsets: str, mirrors=None, **options) -> str:
    output = io.StringIO()
    download(
        DownloadOptions(
            corpus=corpus,
            subsets=subsets,
            to=to,
            mirrors=tuple(mirrors or [server.url]),
            **options,
        ),
        Console(file=output, width=200),
    )
    return output.getvalue()


SUBSETS = ("train-clean-100", "dev-clean")


class TestWhole:
    """What arrives is what prepare reads."""

    def test_subsets_are_fetched_checked_and_unpacked_once(self, server, publish, tmp_path):
        publish("libritts", {subset: libritts(subset) for subset in SUBSETS})
        printed = run(server, tmp_path, "libritts", "dev-clean")
        assert f"Next: svae prepare libritts --root {tmp_path}/LibriTTS" in printed
        run(server, tmp_path, "libritts", *SUBSETS)
        assert len(server.requests) == 2  # dev-clean was there
        assert "is there already" in run(server, tmp_path, "libritts", *SUBSETS)
        assert len(server.requests) == 2
        found = list_utterances("libritts", tmp_path / "LibriTTS", SUBSETS)
        assert [(u.text, u.audio.read_bytes() == NOISE) for u in found] == 2 * [
            ("Good morning.", True)
        ]
        left = sorted(path.name for path in (tmp_path / "downloads/libritts").iterdir())
        assert left == ["dev-clean.json", "train-clean-100.json"]

    @pytest.mark.parametrize("corpus", ["ljspeech", "vctk"])
    def test_corpora_of_one_archive(self, server, publish, tmp_path, corpus):
        if corpus == "ljspeech":
            data = tar_of(
                {"LJSpeech-1.1/metadata.csv": b"a|A.|A.", "LJSpeech-1.1/wavs/a.wav": NOISE}, "bz2"
            )
        else:
            name = "wav48_silence_trimmed/p225/p225_001_mic1.flac"
            data = zip_of({name: NOISE, "txt/p225/p225_001.txt": b"A."})
        publish(corpus, {corpus: data})
        run(server, tmp_path, corpus, keep_archives=True)
        folder = tmp_path / CORPORA[corpus].folder.name
        assert [u.audio.read_bytes() for u in list_utterances(corpus, folder)] == [NOISE]
        assert len(list((tmp_path / "downloads" / corpus).iterdir())) == 2

    def test_librittsr_by_its_md5_and_the_size_that_the_server_says(
        self, server, publish, tmp_path
    ):
        data = tar_of({"LibriTTS_R/dev-clean/1/2/1_2_3_4.wav": NOISE})
        digest = f"md5:{hashlib.md5(data).hexdigest()}"
        [path] = publish("libritts-r", {"dev-clean": data}, digest=digest, size=None).values()
        server.faults[path] = ["cut 5000", "cut 70000"]
        printed = run(server, tmp_path, "libritts-r", "dev-clean")
        assert path.endswith("/resources/141/dev_clean.tar.gz")
        assert f"Next: svae prepare libritts --root {tmp_path}/LibriTTS_R" in printed

    def test_without_a_known_checksum_the_size_counts_and_that_is_said(
        self, server, publish, tmp_path
    ):
        publish("libritts", {"dev-clean": libritts("dev-clean")}, digest="")
        assert "no checksum is known" in run(server, tmp_path, "libritts", "dev-clean")


class TestServers:
    """A server that fails is asked again, then the next one; what has come is kept."""

    @pytest.fixture
    def path(self, publish):
        return publish("libritts", {"dev-clean": libritts("dev-clean")})["dev-clean"]

    def dev_clean(self, server, to, **options):
        return run(server, to, "libritts", "dev-clean", **options)

    @pytest.mark.parametrize(
        "faults",
        [
            ["cut 1000", "cut 100000", "status 503"],
            ["cut 90000", "ignores-range"],
            ["cut 90000", "wrong-range 7"],
            ["status 500", "status 429"],
        ],
        ids=lambda faults: faults[-1],
    )
    def test_faults_that_pass(self, server, path, tmp_path, faults):
        server.faults[path] = list(faults)
        printed = self.dev_clean(server, tmp_path)
        assert (tmp_path / "LibriTTS/dev-clean").is_dir() and "trying again" in printed

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("status 404", "404 Not Found"),
            ("status 503", "503 Service Unavailable, at byte 0 of 2.*given up after 6 tries"),
            ("page", "a web page came in place of the file"),
            ("says 300000", "the server says 300000 bytes, expected 2"),
            ("says 1000", "the server says 1000 bytes, expected 2"),
            ("cut 0", "the connection ended"),
        ],
    )
    def test_faults_that_stay(self, server, path, tmp_path, fault, message):
        server.always[path] = fault
        with pytest.raises(DataError, match=message) as error:
            self.dev_clean(server, tmp_path)
        assert f"{server.url}{path}" in str(error.value) and "from none of 1 server" in str(
            error.value
        )
        assert not (tmp_path / "LibriTTS").exists()
        assert not list(tmp_path.rglob("*.tar.gz"))

    def test_mirrors_are_asked_in_order_and_share_what_has_come(self, server, path, tmp_path):
        server.files[f"/second{path}"] = server.files[path]
        server.always[path] = "cut 0"
        server.faults[path] = ["cut 50000"]
        printed = self.dev_clean(server, tmp_path, mirrors=[server.url, f"{server.url}/second/"])
        assert "Trying the next server" in printed
        assert server.requests[-1] == (f"/second{path}", "bytes=50000-")

    def test_another_file_under_the_name_is_found_out_by_its_sum(self, server, path, tmp_path):
        good = server.files[path]
        server.files[path] = good[:-1] + b"x"
        with pytest.raises(DataError, match=r"its sha256 is \w{64}, expected \w{64}: another file"):
            self.dev_clean(server, tmp_path)
        assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "LibriTTS").exists()
        server.files[f"/second{path}"] = good
        self.dev_clean(server, tmp_path, mirrors=[server.url, f"{server.url}/second"])

    def test_a_beginning_from_elsewhere_is_fetched_anew(self, server, path, tmp_path):
        part = tmp_path / "downloads/libritts/dev-clean.tar.gz.part"
        part.parent.mkdir(parents=True)
        for beginning in (b"something else", b"x" * 10**6, server.files[path][:-1] + b"x"):
            part.write_bytes(beginning)
            self.dev_clean(server, tmp_path / "to" / str(len(beginning)))
        self.dev_clean(server, tmp_path)
        assert (tmp_path / "LibriTTS/dev-clean").is_dir()

    def test_a_killed_run_goes_on_from_the_byte_that_was_reached(self, server, path, tmp_path):
        server.faults[path] = ["cut 60000"]
        server.always[path] = "status 500"
        with pytest.raises(DataError, match="What has come is kept"):
            self.dev_clean(server, tmp_path)
        server.always[path] = ""
        self.dev_clean(server, tmp_path)
        assert server.requests[-1] == (path, "bytes=60000-")

    def test_ctrl_c_keeps_what_has_come(self, tmp_path):
        """In a process of its own, with a server there that stops in the middle."""
        process = subprocess.Popen(
            [sys.executable, "-c", STALLING, str(tmp_path)],
            cwd=Path(__file__).resolve().parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        part = tmp_path / "downloads/ljspeech/LJSpeech-1.1.tar.bz2.part"
        deadline = time.monotonic() + 300
        while not part.exists() or part.stat().st_size < 262144:
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(2)
        _, printed = process.communicate(timeout=300)
        assert process.returncode == 130 and "the same command continues" in printed
        assert "Traceback" not in printed and part.stat().st_size >= 262144
        assert sorted(os.listdir(part.parent)) == [part.name]


STALLING = """
import signal, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2748572632")
        self.end_headers()
        self.wfile.write(bytes(600_000))
        threading.Event().wait(60)
    def log_message(self, *_):
        pass

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a shell inherit that it is ignored
server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
import svae.data.download as download
download._check_space = lambda *_: None
sys.argv = ["svae", "download", "ljspeech", "--to", sys.argv[1], "--mirror", f"http://127.0.0.1:{server.server_port}"]
from svae.cli import main
main()
"""


class TestFolders:
    """Space, names, and what lies there already."""

    def test_space_is_checked_before_anything_is_asked(
        self, server, publish, tmp_path, monkeypatch
    ):
        publish("libritts", {"dev-clean": libritts("dev-clean")})
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage(300_000))
        with pytest.raises(DataError, match=r"0\.3 MB free, but dev-clean needs about 0\.5 MB"):
            run(server, tmp_path, "libritts", "dev-clean")
        publish("libritts-r", {"dev-clean": b"x" * 200_000}, size=None, about=1000)
        monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage(400_000))
        with pytest.raises(DataError, match=r"dev_clean\.tar\.gz needs about 0\.5 MB"):
            run(server, tmp_path, "libritts-r", "dev-clean")
        assert [path for path, _ in server.requests] == ["/resources/141/dev_clean.tar.gz"]

    def test_a_folder_that_is_not_ours_is_left_alone(self, server, publish, tmp_path):
        publish("libritts", {"dev-clean": libritts("dev-clean")})
        (tmp_path / "LibriTTS/dev-clean/mine").mkdir(parents=True)
        with pytest.raises(DataError, match="dev-clean: exists, and not from `svae download`"):
            run(server, tmp_path, "libritts", "dev-clean")
        assert not server.requests

    def test_a_run_killed_while_it_moves_files_is_finished(
        self, server, publish, tmp_path, monkeypatch
    ):
        publish("libritts", {"dev-clean": libritts("dev-clean")})
        move = download_module._move

        def killed(source, target):
            if source.name == "dev-clean":
                (target / "19").mkdir(parents=True)
                raise KeyboardInterrupt
            return move(source, target)

        monkeypatch.setattr(
            download_module,
            "_move",
            lambda source, target: [
                killed(e, target / e.name) for e in sorted(source.iterdir(), reverse=True)
            ],
        )
        with pytest.raises(KeyboardInterrupt):
            run(server, tmp_path, "libritts", "dev-clean")
        monkeypatch.setattr(download_module, "_move", move)
        run(server, tmp_path, "libritts", "dev-clean")
        assert len(server.requests) == 1
        assert len(list_utterances("libritts", tmp_path / "LibriTTS", ["dev-clean"])) == 1

    def test_an_archive_of_something_else(self, server, publish, tmp_path):
        publish("libritts", {"dev-clean": tar_of({"Other/a.wav": b"a"})})
        with pytest.raises(DataError, match="holds no LibriTTS/, but Other"):
            run(server, tmp_path, "libritts", "dev-clean")
        assert not (tmp_path / "LibriTTS").exists()

    @pytest.mark.parametrize(
        ("subsets", "corpus", "message"),
        [
            ((), "libritts", "--subset is missing. libritts has train-clean-100 \\(7.7 GB\\)"),
            (("train",), "libritts", "--subset train: unknown. libritts has train-clean-100"),
            (("train",), "ljspeech", "ljspeech has no subsets"),
            ((), "emilia", "corpus 'emilia': svae cannot download it. Expected one of libritts"),
        ],
    )
    def test_what_is_not_there_is_named(self, tmp_path, subsets, corpus, message):
        with pytest.raises(DataError, match=message):
            download(DownloadOptions(corpus=corpus, subsets=subsets, to=tmp_path))


class TestUnpacking:
    """Nothing is written outside the folder, and nothing but files and folders."""

    def link(self, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    @pytest.mark.parametrize(
        "name", ["../out.txt", "/tmp/svae-out.txt", "a/../../out.txt", "..\\out.txt"]
    )
    @pytest.mark.parametrize("kind", ["tar", "zip"])
    def test_names_that_lead_out(self, tmp_path, name, kind):
        data = tar_of({name: b"x"}) if kind == "tar" else zip_of({name: b"x"})
        archive = tmp_path / ("a.zip" if kind == "zip" else "a.tar.gz")
        archive.write_bytes(data)
        (tmp_path / "to" / "here").mkdir(parents=True)
        with pytest.raises(DataError, match="leads out of the folder"):
            unpack(archive, tmp_path / "to" / "here", lambda _: None)
        assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [archive.name]
        assert not Path("/tmp/svae-out.txt").exists()

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
    )
    def test_links_and_devices(self, tmp_path, kind):
        (tmp_path / "to").mkdir()
        data = tar_of({"a": self.link("a", "/etc", kind), "a/passwd": b"x"})
        (tmp_path / "a.tar.gz").write_bytes(data)
        with pytest.raises(DataError, match="'a' is a link or a device"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "to", lambda _: None)
        assert not list((tmp_path / "to").iterdir())

    @pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.zip"])
    def test_damaged_archives(self, tmp_path, name):
        members = {"x/a": NOISE[:9000], "x/b": NOISE[:9000]}
        data = zip_of(members) if name.endswith("zip") else tar_of(members, name.rpartition(".")[2])
        # A flipped bit is found by the sum of the archive, before it is unpacked.
        for number, content in enumerate((data[: len(data) // 2], b"no archive", b"")):
            (tmp_path / name).write_bytes(content)
            (tmp_path / str(number)).mkdir()
            with pytest.raises(DataError, match=r"damaged \(.*Delete it and download it again"):
                unpack(tmp_path / name, tmp_path / str(number), lambda _: None)

    def test_a_name_twice(self, tmp_path):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for _ in range(2):
                tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
        (tmp_path / "a.tar").write_bytes(buffer.getvalue())
        (tmp_path / "to").mkdir()
        with pytest.raises(DataError, match="cannot be unpacked.*File exists"):
            unpack(tmp_path / "a.tar", tmp_path / "to", lambda _: None)


def test_the_published_archives_fit_the_corpora_and_have_whole_sums():
    for name, published in PUBLISHED.items():
        corpus = CORPORA[published.prepare.split()[0]]
        assert published.folder == corpus.folder.name or "{folder}" in published.prepare
        for subset, archive in published.archives.items():
            assert isinstance(archive, Archive) and archive.path.startswith("/")
            algorithm, _, digest = archive.digest.partition(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size, (name, subset)
            assert all(host.startswith("https://") for host in archive.hosts)
    sums = [a.digest for published in PUBLISHED.values() for a in published.archives.values()]
    assert len(set(sums)) == len(sums) == 23


def test_the_sums_are_those_that_torchaudio_publishes():
    from torchaudio.datasets import librispeech
    from torchaudio.datasets import libritts as tts

    for name, theirs in (("libritts", tts._CHECKSUMS), ("librispeech", librispeech._CHECKSUMS)):
        for archive in PUBLISHED[name].archives.values():
            assert archive.digest == f"sha256:{theirs[f'http://www.openslr.org{archive.path}']}"


def test_the_command(server, publish, tmp_path, monkeypatch):
    from svae.cli import app

    monkeypatch.chdir(tmp_path)
    publish("libritts", {"dev-clean": libritts("dev-clean")})
    command = ["download", "libritts", "--subset", "dev-clean", "--mirror", server.url]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "Next: svae prepare libritts\n" in result.output
    record = json.loads(Path("data/downloads/libritts/dev-clean.json").read_text())
    assert record == {"archive": "dev-clean.tar.gz", "files": 3, "complete": True}
    wrong = CliRunner().invoke(app, ["download", "libritts", "--mirror", "ftp://host"])
    assert wrong.exit_code == 2 and "--mirror ftp://host: expected http" in wrong.output
