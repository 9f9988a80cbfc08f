"""etcd3's messages under the protobuf that is installed, beside whatever else lives in the process.

What an import leaves behind can only be judged in a fresh process, so most of these start one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from psbarrier.store import compat

_CLASH = """
from google.protobuf import descriptor_pb2, descriptor_pool
def take(name):
    file = descriptor_pb2.FileDescriptorProto(name=name, package="another.library")
    file.message_type.add(name="Thing" + name[:2])
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
"""

_USE = """
from psbarrier.store import compat
rpc = compat.load()
assert rpc.TxnRequest.FromString(rpc.TxnRequest(compare=[rpc.Compare(key=b"a")]).SerializeToString()).compare
import etcd3
assert etcd3.etcdrpc is rpc
import etcd3.etcdrpc.kv_pb2
assert etcd3.etcdrpc.kv_pb2.Event.DELETE == 1
"""

IMPLEMENTATIONS = ["default", "python"]


def run(code: str, implementation: str = "default", path: Path | None = None) -> None:
    """Run `code` in a fresh interpreter in which every warning is an error."""
    root = str(Path(compat.__file__).parents[2])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([*([str(path)] if path else []), root]))
    if implementation != "default":
        environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = implementation
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_messages_are_etcds() -> None:
    """Nested transactions, compares over ranges and leases survive the wire."""
    rpc = compat.load()
    request = rpc.TxnRequest()
    request.compare.add(target=rpc.Compare.CREATE, key=b"a", range_end=b"b", create_revision=0)
    request.success.add().request_txn.success.add().request_put.lease = 7
    again = rpc.TxnRequest.FromString(request.SerializeToString())
    assert again == request
    assert again.compare[0].WhichOneof("target_union") == "create_revision"
    assert rpc.NOSPACE == rpc.AlarmType.Value("NOSPACE") == 1


def test_all_threads_get_the_same_module() -> None:
    """Two sets of classes in one process would not understand each other."""
    loaded: list[object] = []
    threads = [threading.Thread(target=lambda: loaded.append(compat.load())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(loaded) == 8
    assert {id(module) for module in loaded} == {id(compat.load())}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_it_imports_without_a_warning_in_a_fresh_process(implementation: str) -> None:
    """Also where every warning is an error; and the user's filters stay as they were."""
    run(f"import warnings; before = list(warnings.filters)\n{_USE}\nassert warnings.filters == before", implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_another_librarys_files_of_the_same_names_do_no_harm(implementation: str) -> None:
    """`kv.proto` and `rpc.proto` in protobuf's default pool may be somebody else's."""
    run(f"{_CLASH}\ntake('kv.proto'); take('rpc.proto')\n{_USE}", implementation)


def test_the_names_stay_free_for_libraries_that_come_later() -> None:
    """An import of etcd3 that is bound to fail is not tried, since it would leave its first file in the pool."""
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() != "upb":
        pytest.skip("this protobuf imports etcd3 as it is, and so registers its files")
    run(f"{_USE}\n{_CLASH}\ntake('kv.proto'); take('rpc.proto')")


def test_an_etcd3_that_cannot_be_used_leaves_nothing_half_imported(tmp_path: Path) -> None:
    """The error is an ImportError, and the next import of etcd3 starts from scratch."""
    package = tmp_path / "etcd3" / "etcdrpc"
    package.mkdir(parents=True)
    (tmp_path / "etcd3" / "__init__.py").write_text("import etcd3.etcdrpc\n")
    (package / "__init__.py").write_text("from .kv_pb2 import *\nraise TypeError('made for another protobuf')\n")
    for name in ("kv", "auth", "rpc"):
        (package / f"{name}_pb2.py").write_text("NOTHING = 1\n")
    run(
        "import sys\n"
        "from psbarrier.store import compat\n"
        "try:\n    compat.load()\n"
        "except ImportError as error:\n    assert '0.12' in str(error)\n"
        "else:\n    raise AssertionError('it loaded')\n"
        "assert not [name for name in sys.modules if name.startswith('etcd3')]",
        path=tmp_path,
    )


def test_the_filters_for_warnings_are_the_users(recwarn: pytest.WarningsRecorder) -> None:
    """Loading changes none of them."""
    before = list(warnings.filters)
    compat.load()
    assert warnings.filters == before
    assert not recwarn.list
