import os
import pickle
import random
import zipfile
from multiprocessing import get_context

import pytest

from ecg_hf.corpora.roots import open as module
from ecg_hf.corpora.roots import server as server_module
from ecg_hf.corpora.roots.archive import ZipRoot
from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError, is_html
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.roots.open import open_root
from ecg_hf.corpora.roots.server import ServerRoot
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError
from file_server import serve

FILES = {"index.csv": b"id\n1\n", "records/1.dat": bytes(range(256)), "records/2.dat": b"\0" * 10}
SLUG = "toy-a-very-long-name-1.0.0/"
KINDS = ["folder", "wget", "zip", "slug", "server"]


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    with serve(tmp_path / "served") as served:
        yield served


def write(folder, prefix="", files=FILES):
    for name, data in files.items():
        path = folder / (prefix + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path, prefix="", files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return path


def place(kind, folder, server):
    """The address of the toy corpus, stored in a certain way."""
    match kind:
        case "folder":
            return write(folder / "toy")
        case "wget":
            write(folder / "down", "physionet.org/files/toy/1.0.0/")
            return write(folder / "down", files={"index.html": b"<html>", "physionet.org/robots.txt": b"x"})
        case "zip":
            return write_zip(folder / "toy.zip")
        case "slug":
            return write_zip(folder / "slug.zip", SLUG)
        case "server":
            write(folder / "served")
            return server[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_storing_a_corpus_gives_the_same_bytes(kind, tmp_path, server):
    root = open_root(place(kind, tmp_path, server), "index.csv")
    assert {name: root.read(name) for name in FILES} == FILES
    assert all(root.exists(name) for name in FILES) and not root.exists("records/3.dat")
    assert pickle.loads(pickle.dumps(root)).read("records/1.dat") == FILES["records/1.dat"]


@pytest.mark.parametrize("kind", ["folder", "stored", "server"])
def test_parts_of_a_file_can_be_read_wherever_it_lies(kind, tmp_path, server):
    big = {**FILES, "big.hdf5": bytes(random.Random(0).randbytes(3_000_000))}
    if kind == "stored":
        place_of = tmp_path / "toy.zip"
        with zipfile.ZipFile(place_of, "w", zipfile.ZIP_STORED) as archive:
            for name, data in big.items():
                archive.writestr(name, data)
    else:
        write(tmp_path / "served", files=big)
        place_of = server[0] if kind == "server" else tmp_path / "served"
    root = open_root(place_of, "index.csv")
    with root.open("big.hdf5") as file:
        for start in (2_900_000, 0, 1_500_000):
            file.seek(start)
            assert file.read(1000) == big["big.hdf5"][start : start + 1000]
    with pytest.raises(MissingFileError):
        root.open("small.hdf5")
    with pytest.raises(EcgAccessError):
        root.open("../toy.hdf5")


def test_a_compressed_member_is_not_read_in_parts(tmp_path):
    with pytest.raises(EcgAccessError, match="can only be read whole; unpack the archive"):
        open_root(write_zip(tmp_path / "toy.zip"), "index.csv").open("records/1.dat")


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_listing_names_what_lies_directly_in_a_folder(kind, tmp_path, server):
    root = open_root(place(kind, tmp_path, server), "index.csv")
    assert root.list() == ["index.csv", "records"] and root.list("records") == ["1.dat", "2.dat"]
    with pytest.raises(EcgAccessError):
        root.list("nothing")
    with pytest.raises(EcgAccessError):
        root.list("index.csv")


def test_a_server_cannot_be_listed(tmp_path, server):
    with pytest.raises(EcgAccessError, match="cannot be listed; use a folder or a zip"):
        open_root(place("server", tmp_path, server), "index.csv").list()


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named_with_a_remedy(kind, tmp_path, server):
    root = open_root(place(kind, tmp_path, server), "index.csv")
    with pytest.raises(MissingFileError, match=r"records/3\.dat is missing; complete the download"):
        root.read("records/3.dat")
    with pytest.raises(EcgAccessError):
        root.read("index.csv/3.dat")


TRICKS = (
    "../secret.dat  /etc/passwd  records/../../secret.dat  ..  .  ./index.csv  records//1.dat  records/  /  ~/../x/..  "
    "C:/secret.dat  c:secret.dat  records\\1.dat  ..\\secret.dat  records/./1.dat  records/..  //server/share/x  "
    "records/1.dat/..  ../toy/index.csv"
).split()


@pytest.mark.parametrize("trick", [*TRICKS, "", "records/1.dat\0", "\0", "a" * 5000, "records/" + "b/" * 2000 + "c"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_path_leads_out_of_the_root(kind, trick, tmp_path, server):
    (tmp_path / "secret.dat").write_bytes(b"secret")
    root = open_root(place(kind, tmp_path, server), "index.csv")
    with pytest.raises(EcgAccessError):
        root.read(trick)


@pytest.mark.parametrize("target", ["../secret.dat", "/etc/hostname", "..", "self"])
def test_no_link_leads_out_of_a_folder(target, tmp_path):
    (tmp_path / "secret.dat").write_bytes(b"secret")
    toy = write(tmp_path / "toy")
    (toy / "self").symlink_to(target)
    with pytest.raises(EcgAccessError):
        FolderRoot(toy).read("self")
    (toy / "folder").symlink_to(tmp_path)
    with pytest.raises(EcgAccessError, match="link out of"):
        FolderRoot(toy).read("folder/secret.dat")
    with pytest.raises(EcgAccessError, match="link out of"):
        FolderRoot(toy).list("folder")


def test_a_link_within_a_folder_and_a_linked_root_are_followed(tmp_path):
    toy = write(tmp_path / "toy")
    (toy / "inner.dat").symlink_to("records/1.dat")
    (tmp_path / "linked").symlink_to(toy)
    assert FolderRoot(tmp_path / "linked").read("inner.dat") == FILES["records/1.dat"]


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    toy = write(tmp_path / "toy")
    os.mkfifo(toy / "pipe")
    for name in ("pipe", "records"):
        with pytest.raises(EcgAccessError, match="not a regular file"):
            FolderRoot(toy).read(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_too_large_for_memory_is_refused(kind, tmp_path, server, monkeypatch):
    root = open_root(place(kind, tmp_path, server), "index.csv")
    monkeypatch.setattr(CorpusRoot, "max_bytes", 100)
    with pytest.raises(EcgAccessError, match="expected at most 100"):
        root.read("records/1.dat")
    assert root.read("records/2.dat") == FILES["records/2.dat"]


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path, monkeypatch):
    root = open_root(write_zip(tmp_path / "bomb.zip", files={"index.csv": b"", "big.dat": b"\0" * 10**7}), "index.csv")
    monkeypatch.setattr(CorpusRoot, "max_bytes", 10**6)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *args: pytest.fail("unfolded"))
    with pytest.raises(EcgAccessError, match="has 10000000 bytes"):
        root.read("big.dat")


PAGES = [
    b"<!DOCTYPE html><html><head><title>403</title>",
    b"\n\n  <!doctype HTML PUBLIC '-//IETF'>",
    b"\xef\xbb\xbf<html lang='en'>",
    b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC>",
    b"<!-- login -->\n<HTML>",
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_web_page_under_the_name_of_data_is_found(kind, page, tmp_path, server, monkeypatch):
    monkeypatch.setitem(FILES, "records/2.dat", page)
    root = open_root(place(kind, tmp_path, server), "index.csv")
    with pytest.raises(EcgAccessError, match=r"records/2\.dat should hold data but is a web page"):
        root.read("records/2.dat")


def test_data_that_only_mention_web_pages_are_no_web_pages():
    assert not any(map(is_html, [b"", b"id,text\n1,<html>\n", b"<?xml version='1.0'?><restecg>", b"00001_hr 12 500"]))


def test_a_place_with_no_corpus_or_two_is_refused(tmp_path):
    write(tmp_path, "a/")
    with pytest.raises(EcgAccessError, match=r"holds no other\.csv; set data_dir"):
        open_root(tmp_path, "other.csv")
    write(tmp_path, "b/c/")
    with pytest.raises(EcgAccessError, match="holds 2 copies of the corpus"):
        open_root(tmp_path, "index.csv")
    assert open_root(tmp_path / "b", "index.csv").read("index.csv") == FILES["index.csv"]
    write_zip(tmp_path / "two.zip", files={"a/index.csv": b"", "b/index.csv": b""})
    with pytest.raises(EcgAccessError, match="holds 2 copies of the corpus"):
        open_root(tmp_path / "two.zip", "index.csv")
    for nowhere in (tmp_path / "nowhere", "s3://bucket/toy", "file:///etc"):
        with pytest.raises(EcgAccessError, match=r"is not a folder, zip archive or http\(s\) address"):
            open_root(nowhere, "index.csv")


def test_the_search_for_a_corpus_gives_up_in_a_huge_tree(tmp_path, monkeypatch):
    for number in range(9):
        (tmp_path / str(number)).mkdir()
    monkeypatch.setattr(module, "MAX_FOLDERS", 5)
    with pytest.raises(EcgAccessError, match="over 5 folders; set data_dir"):
        open_root(tmp_path, "index.csv")


def test_a_marker_must_be_a_whole_name(tmp_path):
    root = open_root(
        write_zip(tmp_path / "a.zip", files=FILES | {"old_index.csv": b"", "x/my-index.csv": b""}), "index.csv"
    )
    assert root.read("index.csv") == FILES["index.csv"]


def test_a_damaged_or_tricky_archive_is_refused(tmp_path):
    (tmp_path / "page.zip").write_bytes(PAGES[0])
    with pytest.raises(EcgFormatError, match="not a readable zip archive"):
        open_root(tmp_path / "page.zip", "index.csv")
    data = bytearray(write_zip(tmp_path / "a.zip").read_bytes())
    place_of_data = data.index(b"records/1.dat") + len("records/1.dat") + 50
    data[place_of_data] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(EcgIntegrityError, match=r"records/1\.dat is damaged"):
        open_root(tmp_path / "a.zip", "index.csv").read("records/1.dat")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("index.csv", b"a")
        archive.writestr("index.csv", b"b")
    with pytest.raises(EcgIntegrityError, match="two files of the same name"):
        open_root(tmp_path / "twice.zip", "index.csv")
    link = zipfile.ZipInfo("link.dat")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr("index.csv", b"a")
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(EcgAccessError, match="a link"):
        open_root(tmp_path / "link.zip", "index.csv").read("link.dat")


@pytest.mark.parametrize("position", range(0, 400, 16))
def test_a_truncated_archive_is_refused(position, tmp_path):
    whole = write_zip(tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[:position])
    with pytest.raises(EcgError):
        open_root(tmp_path / "a.zip", "index.csv").read("records/1.dat")


def reads_well(root, files):
    return all(root.read(name) == data for _ in range(40) for name, data in files.items())


def test_processes_forked_with_an_open_archive_do_not_disturb_each_other(tmp_path):
    # larger than the buffer of a file object, so that each read moves the position in the file
    files = {f"{number}.dat": random.Random(number).randbytes(100_000) for number in range(8)}
    root = open_root(write_zip(tmp_path / "a.zip", files={"index.csv": b"", **files}), "index.csv")
    assert reads_well(root, files)
    # the root is handed over by the fork itself, opened, and not by pickling, which would close it
    processes = [get_context("fork").Process(target=check_reads, args=(root, files)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def check_reads(root, files):
    assert reads_well(root, files)


def test_a_stamp_changes_with_the_file(tmp_path):
    toy = write(tmp_path / "toy")
    root = FolderRoot(toy)
    before = root.stamp("records/2.dat")
    (toy / "records/2.dat").write_bytes(b"\1" * 10)
    os.utime(toy / "records/2.dat", ns=(0, 1))
    assert root.stamp("records/2.dat") not in (before, None) and root.stamp("records/3.dat") is None
    one = ZipRoot(write_zip(tmp_path / "1.zip")).stamp("records/2.dat")
    two = ZipRoot(write_zip(tmp_path / "2.zip", files=FILES | {"records/2.dat": b"\1" * 10})).stamp("records/2.dat")
    assert one != two


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(status, tmp_path, server, monkeypatch):
    monkeypatch.setattr(server_module, "WAITS_S", (0.0, 0.0))
    url, faults = server
    write(tmp_path / "served")
    faults["/index.csv"] = [status, status]
    assert open_root(url, "index.csv").read("index.csv") == FILES["index.csv"]
    faults["/index.csv"] = [status] * 3
    with pytest.raises(EcgAccessError, match=f"could not be fetched .status {status}.; download the corpus"):
        open_root(url, "index.csv").read("index.csv")


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_asks_for_a_login_is_not_asked_twice(status, tmp_path, server):
    url, faults = server
    write(tmp_path / "served")
    faults["/index.csv"] = [status]
    with pytest.raises(EcgAccessError, match=f"status {status}"):
        ServerRoot(url).read("index.csv")
    assert faults["/index.csv"] == [] and ServerRoot(url).exists("index.csv")


def test_a_server_that_is_away_is_named(monkeypatch):
    monkeypatch.setattr(server_module, "WAITS_S", ())
    with pytest.raises(EcgAccessError, match=r"http://127\.0\.0\.1:1/index\.csv could not be fetched"):
        open_root("http://127.0.0.1:1", "index.csv").read("index.csv")


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/toy", "https://host/toy?token=secret", "http://host/#secret", "http://"]
)
def test_an_address_with_a_login_is_refused_and_its_secret_not_shown(url):
    with pytest.raises(EcgAccessError, match="plain address") as caught:
        open_root(url, "index.csv")
    assert "secret" not in str(caught.value)
