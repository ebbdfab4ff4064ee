"""Binding of running_code.h and relocate_code.h: what opcodes are called, which code has run."""


def set_opcodes(opmap, specialized, caches, families):
    """Tell the constant patcher what the opcodes of this interpreter are called.

    opmap: name to number; specialized: likewise for specialized forms; caches: base name to
    code units of inline cache; families: specialized name to base name.
    """
    cdef int number
    for number in range(256):
        cf_opcode.base[number] = number
        cf_opcode.caches[number] = 0
        cf_opcode.opaque[number] = True
    for name, number in opmap.items():
        if number < 256:
            base = name.removeprefix("INSTRUMENTED_")
            if base in opmap:
                cf_opcode.opaque[number] = False
                cf_opcode.base[number] = opmap[base]
                cf_opcode.caches[number] = caches.get(base, 0)
    for name, number in specialized.items():
        base = families.get(name)
        if base is not None:
            cf_opcode.opaque[number] = False
            cf_opcode.base[number] = opmap[base]
    for name in ("ENTER_EXECUTOR", "INSTRUMENTED_LINE", "INSTRUMENTED_INSTRUCTION"):
        if name in opmap:
            cf_opcode.opaque[<int>opmap[name]] = True
    cf_opcode.load_const = opmap["LOAD_CONST"]
    cf_opcode.load_const_mortal = specialized["LOAD_CONST_MORTAL"]
    cf_opcode.load_const_immortal = specialized["LOAD_CONST_IMMORTAL"]
    cf_opcode.extended_arg = opmap["EXTENDED_ARG"]
    cf_opcode.known = True


def set_resume_opcodes(int resume, int resume_check):
    """Tell the relocation by which opcodes it sees what has run (3.13 and later)."""
    cf_relocate_set_opcodes(resume, resume_check)


def mark_code() -> int:
    """Note how all code looks now: what runs from here to the freeze is hot.

    Returns how many code objects were noted.
    """
    return cf_relocate_mark()


def forget_code():
    """Give up what mark_code noted; a freeze does it too."""
    cf_relocate_forget()
