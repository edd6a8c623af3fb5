"""gdb commands for the green threads of hebra, in a live process or a core file.

    hebra threads [REASON]     lists green threads, longest wait first
    hebra bt NUMBER|NAME|all   prints their stacks
    hebra thread NUMBER|none   makes `bt`, `up` and `frame` show the stack of that one
    hebra locks                prints waits for another thread, and circles of them
    hebra groups               prints stacks that several share, once
    hebra workers              prints the OS threads that run green threads

Load it with `source hebra.py`, or `gdb -x hebra.py`. It reads the section `.hebra` and needs no
debug information, though frames have names only where there are symbols. For x86-64.
"""

import re
import struct
import time

import gdb
import gdb.unwinder

MAGIC = b"hebra debug 0001"
WORDS = (
    "first_slab label colour colours l_header l_location l_name l_record "
    "claim home reason owned since waits_for rare id "
    "tables workers view saved root boxed file file_length line column"
).split()
REASONS = 32
WAITING = 1  # The state in the low three bits of a claim word.
MISSING = 1 << 63


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def word(address):
    return struct.unpack("<Q", read(address, 8))[0]


def unsigned_long():
    return gdb.lookup_type("unsigned long")


class Section:
    """What this build says of itself."""

    def __init__(self):
        at = self.find()
        size = len(MAGIC) + 8 * len(WORDS) + 16 * REASONS
        data = read(at, size)
        values = struct.unpack_from("<%dQ" % len(WORDS), data, len(MAGIC))
        self.__dict__.update(zip(WORDS, values))
        reasons = len(MAGIC) + 8 * len(WORDS)
        self.reasons = []
        for n in range(REASONS):
            address, length = struct.unpack_from("<2Q", data, reasons + 16 * n)
            self.reasons.append(read(address, length).decode() if length else "")
        if not self.saved:
            raise gdb.GdbError("hebra has started no worker here, or keeps registers elsewhere")

    @staticmethod
    def find():
        for line in gdb.execute("info files", to_string=True).splitlines():
            match = re.match(r"\s*(0x[0-9a-f]+) - (0x[0-9a-f]+) is \.hebra( in .*)?$", line)
            if match:
                address = int(match[1], 16)
                if read(address, len(MAGIC)) == MAGIC:
                    return address
                raise gdb.GdbError("this script is for another version of hebra")
        raise gdb.GdbError("there is no section .hebra: is this a program with hebra?")

    def slabs(self):
        """Yields start, end and slot size of each mapping of stacks."""
        slab = word(self.first_slab)
        while slab:
            start, end, size, slab = struct.unpack("<4Q", read(slab, 32))
            yield start, end, size

    def views(self):
        """The tables of the workers that run, by number."""
        out = {}
        data = read(self.tables, self.workers * self.view)
        for n in range(self.workers):
            base, stride, epoch, tid = struct.unpack_from("<3QI", data, n * self.view)
            if tid:
                out[n] = (base, stride, epoch, tid)
        return out

    def place(self, address):
        """A `Location` of Rust, as text."""
        if not address or self.file >= MISSING:
            return "?"
        data = read(address, 32)
        file, length = (struct.unpack_from("<Q", data, at)[0] for at in (self.file, self.file_length))
        line, column = (struct.unpack_from("<I", data, at)[0] for at in (self.line, self.column))
        name = read(file, length).split(b"\0")[0].decode(errors="replace")
        return "%s:%d:%d" % (name, line, column)


class Green:
    """One started green thread."""

    number = 0

    def title(self):
        return "#%d '%s' (spawned at %s)" % (self.number, self.name, self.spawned_at)

    def state_in_words(self):
        if self.os_thread:
            return "running on OS thread %d" % self.os_thread
        if not self.parked:
            return "ready"
        return "%s for %s" % (self.reason, self.age)

    def line(self, by_id):
        text = "%s worker %d: %s" % (self.title(), self.worker, self.state_in_words())
        if self.owner:
            text += ", waits for %s" % owner_name(self.owner, by_id)
        return text


def owner_name(id, by_id):
    owner = by_id.get(id)
    return "#%d '%s'" % (owner.number, owner.name) if owner else "an OS thread (id %d)" % id


def stack_pointers():
    """Where the stacks of the OS threads end now."""
    selected, out = gdb.selected_thread(), []
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        out.append((int(frame.read_register("rsp").cast(unsigned_long())), thread.num))
    selected.switch()
    return out


def is_live():
    return "core" not in gdb.execute("info target", to_string=True).split("\n")[1].lower()


def greens(section):
    """All started green threads, longest wait first, numbered."""
    views, running, found = section.views(), stack_pointers(), []
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for start, end, size in section.slabs():
        for n, slot in enumerate(range(start, end, size)):
            colour = (slot // size) % section.colours
            label = slot + size - section.colour * colour - section.label
            try:
                data = read(label, 64)
            except gdb.MemoryError:
                continue
            field = lambda at: struct.unpack_from("<Q", data, at)[0]
            header = field(section.l_header)
            if header & 0xFF != 1:
                continue
            green = Green()
            try:
                fill(section, green, data, field, header, views)
            except gdb.MemoryError:
                continue
            green.os_thread = next((n for sp, n in running if slot <= sp < label), None)
            green.range = slot, label
            found.append(green)
    latest = max((g.since for g in found), default=0)
    for green in found:
        reference = now if green.is_timed and is_live_process else latest
        seconds = max(0, reference - green.since) / 1e9
        # A core does not say when it was written: the latest event in it is the reference.
        green.age = "%.3f s" % seconds if is_live_process else "at least %.3f s" % seconds
    found.sort(key=lambda g: (not g.parked, g.since))
    for number, green in enumerate(found, 1):
        green.number = number
    return found


is_live_process = True


def fill(section, green, label, field, header, views):
    record = field(section.l_record)
    data = read(record, 128)
    get = lambda at: struct.unpack_from("<Q", data, at)[0]
    green.record = record
    length = min(header >> 16, 40)
    name = label[section.l_name : section.l_name + length]
    green.name = name.decode(errors="replace") if header & 0x100 else "<unnamed>"
    green.spawned_at = section.place(field(section.l_location))
    home = get(section.home) & ~MISSING
    green.worker, slot = (home >> 32) - 1, home & 0xFFFFFFFF
    green.parked = get(section.claim) & 7 == WAITING
    green.reason = section.reasons[data[section.reason]]
    base, stride, epoch, _ = views.get(green.worker, (0, 0, 0, 0))
    green.is_timed = epoch != 0
    green.since = get(section.since) + epoch
    green.sp = word(base + slot * stride + section.saved) if base else 0
    green.owner = 0
    if data[section.owned] and get(section.waits_for):
        green.owner = word(get(section.waits_for))
    green.id = 0
    if section.boxed < MISSING:
        rare = get(section.rare + section.boxed)
        # The lock around it says whether it is there; an address that cannot be read is none.
        try:
            green.id = word(rare + section.id) if rare else 0
        except gdb.MemoryError:
            pass


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class Unwinder(gdb.unwinder.Unwinder):
    """Makes the innermost frame of the selected OS thread one that a green thread has called."""

    def __init__(self):
        super().__init__("hebra")
        self.green = None

    def __call__(self, pending):
        if self.green is None:
            return None
        sp, pc = (int(pending.read_register(name)) for name in ("rsp", "rip"))
        if (sp, pc) != self.at:
            return None
        saved = self.green.sp
        as_word = lambda value: gdb.Value(value).cast(unsigned_long())
        info = pending.create_unwind_info(FrameId(as_word(saved), as_word(pc)))
        registers = ("rip", word(saved)), ("rbx", word(saved + 8)), ("rbp", word(saved + 16)), ("rsp", saved + 24)
        for name, value in registers:
            info.add_saved_register(name, as_word(value))
        return info

    def show(self, green):
        self.green = None
        gdb.invalidate_cached_frames()
        frame = gdb.newest_frame()
        self.at = tuple(int(frame.read_register(name)) for name in ("rsp", "rip"))
        self.green = green
        gdb.invalidate_cached_frames()


UNWINDER = Unwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


def frames(green, slabs, limit=96):
    """The frames of a suspended green thread. They end where the stack is left: what a parked thread
    says of the worker's stack is out of date."""
    if not green.sp:
        return ["(its registers cannot be found)"]
    UNWINDER.show(green)
    try:
        frame, out = gdb.newest_frame().older(), []
        while frame is not None and frame.is_valid() and len(out) < limit:
            sp = int(frame.read_register("rsp").cast(unsigned_long()))
            if not any(start <= sp < end for start, end, _ in slabs):
                break
            place = frame.find_sal()
            where = " at %s:%d" % (place.symtab.filename, place.line) if place.symtab else ""
            out.append("%#x in %s%s" % (frame.pc(), frame.name() or "??", where))
            frame = frame.older()
        return out
    finally:
        UNWINDER.show(None)


def chosen(all, which):
    out = [g for g in all if which in ("all", str(g.number), "#%d" % g.number, g.name)]
    if not out:
        raise gdb.GdbError("there is no green thread '%s'; see `hebra threads`" % which)
    return out


def circles(all, by_id):
    """Each circle of waits once, beginning with its lowest number."""
    out = []
    for first in all:
        circle, green = [first], by_id.get(first.owner)
        while green and green is not first and green not in circle:
            circle.append(green)
            green = by_id.get(green.owner)
        if green is first and first.owner and all_above(circle, first):
            out.append(circle)
    return out


def all_above(circle, first):
    return all(green.number >= first.number for green in circle)


class Hebra(gdb.Command):
    __doc__ = __doc__

    def __init__(self):
        super().__init__("hebra", gdb.COMMAND_STACK)

    def invoke(self, arguments, from_tty):
        global is_live_process
        command, _, which = arguments.partition(" ")
        which = which.strip()
        if command == "thread" and which == "none":
            return UNWINDER.show(None)
        UNWINDER.show(None)
        is_live_process = is_live()
        section = Section()
        found = greens(section)
        by_id = {g.id: g for g in found if g.id}
        slabs = list(section.slabs())
        if command == "threads":
            self.threads(found, by_id, which)
        elif command == "bt":
            for green in chosen(found, which or "all"):
                print(green.line(by_id))
                if green.os_thread:
                    print("    (see OS thread %d)" % green.os_thread)
                else:
                    for n, text in enumerate(frames(green, slabs)):
                        print("    #%d %s" % (n, text))
        elif command == "thread":
            green = chosen(found, which)[0]
            UNWINDER.show(green)
            print(green.line(by_id))
        elif command == "locks":
            for green in (g for g in found if g.owner):
                print(green.line(by_id))
            for circle in circles(found, by_id):
                links = ["#%d '%s'" % (g.number, g.name) for g in circle + circle[:1]]
                print("%d in a circle: %s" % (len(circle), " -> ".join(links)))
        elif command == "groups":
            self.groups(found, by_id, slabs)
        elif command == "workers":
            for n, (_, _, _, tid) in section.views().items():
                here = [g for g in found if g.worker == n]
                runs = next((g.title() for g in here if g.os_thread), "no green thread")
                ready = sum(not g.parked and not g.os_thread for g in here)
                print("worker %d (tid %d): runs %s; %d started, %d ready" % (n, tid, runs, len(here), ready))
        else:
            print(__doc__)

    @staticmethod
    def threads(found, by_id, reason):
        shown = [g for g in found if not reason or reason in g.state_in_words()]
        for green in shown:
            print(green.line(by_id))
        print("%d green threads, %d parked" % (len(found), sum(g.parked for g in found)))

    @staticmethod
    def groups(found, by_id, slabs):
        groups = {}
        for green in found:
            stack = () if green.os_thread else tuple(frames(green, slabs))
            groups.setdefault((stack, green.reason, bool(green.os_thread)), []).append(green)
        for (stack, _, _), members in sorted(groups.items(), key=lambda item: -len(item[1])):
            print("%d x %s" % (len(members), members[0].line(by_id)))
            for n, text in enumerate(stack):
                print("    #%d %s" % (n, text))


Hebra()
