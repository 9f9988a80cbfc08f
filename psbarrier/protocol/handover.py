"""Handover: what a guardian tells its child in PSBARRIER_SESSION, so that the child uses the guardian's task."""

from __future__ import annotations

from attrs import frozen

from psbarrier.errors import InvalidArgumentError, MalformedValueError
from psbarrier.protocol.codec import LARGE, Fields, decode, encode_text
from psbarrier.protocol.keys import JobKeys
from psbarrier.protocol.records import Config
from psbarrier.protocol.standing import Standing
from psbarrier.spec import Task

VARIABLE = "PSBARRIER_SESSION"


@frozen
class Handover:
    """A standing, and the revision of the registration that the child is to replace: whoever attaches changes it, so
    only one process can.
    """

    standing: Standing
    prefix: str
    mod: int
    tether: str = ""
    """The path of the socket at which the guardian waits for the child, if it does."""

    def pack(self) -> str:
        me = self.standing
        fields = {name: getattr(me, name) for name in _SAME}
        config = encode_text(me.config.as_dict())  # a variable holds text, so nothing here may be compressed
        return encode_text(
            {
                **fields,
                "task": str(me.task),
                "config": config,
                "prefix": self.prefix,
                "mod": self.mod,
                "tether": self.tether,
            }
        )

    @classmethod
    def unpack(cls, text: str) -> Handover:
        """The reverse of `pack`; InvalidArgumentError for anything else."""

        def build(fields: Fields) -> Handover:
            prefix, job, run = fields.text("prefix"), fields.text("job"), fields.text("run")
            standing = Standing(
                keys=JobKeys(prefix, job).run(run),
                job=job,
                run=run,
                task=Task.parse(fields.text("task")),
                incarnation=fields.text("incarnation"),
                address=fields.text("address"),
                ttl=fields.whole("ttl"),
                lease=fields.whole("lease"),
                token=fields.whole("token"),
                config=Config.unpack(VARIABLE, fields.text("config").encode()),
                config_create=fields.whole("config_create"),
                run_lease=fields.whole("run_lease"),
                restarts=fields.whole("restarts"),
            )
            return cls(standing, prefix, fields.whole("mod"), fields.text("tether"))

        try:
            return decode(VARIABLE, text.encode(errors="surrogateescape"), build, most=LARGE)
        except MalformedValueError as error:
            raise InvalidArgumentError(
                f"{VARIABLE} does not hold what psbarrier run puts there: start this program with psbarrier run of the "
                "same version, or unset the variable"
            ) from error


_SAME = (
    "job",
    "run",
    "incarnation",
    "address",
    "ttl",
    "lease",
    "token",
    "config_create",
    "run_lease",
    "restarts",
)
