"""Kernels as PTX text, which the driver compiles by itself: no nvcc, no Triton, no C compiler.

A chain of multiply-adds whose instructions are known one by one, and a kernel that only waits.
"""

from dataclasses import dataclass

CHAINS = 8
"""Independent chains per thread: they hide the latency of an instruction."""
UNROLL = 8
"""Multiply-adds per chain and round; the loop itself is 3 instructions of 67."""
HEAD = ".version 7.0\n.target sm_80\n.address_size 64\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fma:
    """One kind of multiply-add.

    Attributes:
        instruction: Its PTX instruction.
        register: PTX type of its registers.
        add: Instruction that adds two registers.
        flop: FLOP of one instruction in one thread.
    """

    instruction: str
    register: str
    add: str
    flop: int


KINDS = {
    "fp32": Fma(instruction="fma.rn.f32", register=".f32", add="add.rn.f32", flop=2),
    "fp64": Fma(instruction="fma.rn.f64", register=".f64", add="add.rn.f64", flop=2),
    "fp16": Fma(instruction="fma.rn.f16x2", register=".b32", add="add.rn.f16x2", flop=4),
}


def flop_per_round(kind: str) -> int:
    """Return the FLOP of one round of one thread."""
    return CHAINS * UNROLL * KINDS[kind].flop


def fma_ptx(kind: str) -> str:
    """Return the module with ``fma(u64 out, u32 rounds, f32 a, f32 b)``: x = a x + b, again and again.

    ``out`` holds 8 bytes per thread. With 0 < a < 1 the values stay near b / (1 - a): no overflow, no
    denormals.

    Args:
        kind: Key of KINDS.
    """
    fma = KINDS[kind]
    body = "\n".join(
        f"  {fma.instruction} %x{chain}, %x{chain}, %a, %b;" for _ in range(UNROLL) for chain in range(CHAINS)
    )
    sums = "\n".join(f"  {fma.add} %x0, %x0, %x{chain};" for chain in range(1, CHAINS))
    starts = "\n".join(_start(kind, chain) for chain in range(CHAINS))
    return f"""{HEAD}
.visible .entry fma(.param .u64 out, .param .u32 rounds, .param .f32 a, .param .f32 b)
{{
{_prologue(kind)}
{starts}
ROUND:
{body}
  sub.u32 %r0, %r0, 1;
  setp.ne.u32 %p, %r0, 0;
  @%p bra ROUND;
{sums}
  cvta.to.global.u64 %rd1, %rd0;
  mul.wide.u32 %rd2, %r4, 8;
  add.u64 %rd3, %rd1, %rd2;
  st.global{".b32" if kind == "fp16" else fma.register} [%rd3], %x0;
  ret;
}}
"""


def _prologue(kind: str) -> str:
    """Return registers, arguments, and the thread's number in %r4."""
    return f"""  .reg .pred %p;
  .reg .b16 %h<2>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  .reg .f32 %fa, %fb;
  .reg {KINDS[kind].register} %a, %b, %x<{CHAINS}>;
  ld.param.u64 %rd0, [out];
  ld.param.u32 %r0, [rounds];
  ld.param.f32 %fa, [a];
  ld.param.f32 %fb, [b];
{_convert(kind, "a")}
{_convert(kind, "b")}
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.u32 %r4, %r1, %r2, %r3;"""


def _convert(kind: str, name: str) -> str:
    """Return code that makes the factor of the kind from the FP32 argument."""
    if kind == "fp32":
        return f"  mov.f32 %{name}, %f{name};"
    if kind == "fp64":
        return f"  cvt.f64.f32 %{name}, %f{name};"
    return f"  cvt.rn.f16.f32 %h0, %f{name};\n  mov.b32 %{name}, {{%h0, %h0}};"


def _start(kind: str, chain: int) -> str:
    """Return code that gives a chain its first value, another one for each thread and chain."""
    number = f"  and.b32 %r5, %r4, 63;\n  add.u32 %r5, %r5, {chain};\n"
    if kind == "fp16":
        return f"{number}  cvt.rn.f16.u32 %h0, %r5;\n  mov.b32 %x{chain}, {{%h0, %h0}};"
    return f"{number}  cvt.rn{KINDS[kind].register}.u32 %x{chain}, %r5;"


SPIN_PTX = f"""{HEAD}
.visible .entry spin(.param .u64 out, .param .u64 length_ns)
{{
  .reg .pred %p;
  .reg .b32 %r<2>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd0, [out];
  ld.param.u64 %rd1, [length_ns];
  mov.u64 %rd2, %globaltimer;
  add.u64 %rd3, %rd2, %rd1;
WAIT:
  mov.u64 %rd4, %globaltimer;
  setp.lt.u64 %p, %rd4, %rd3;
  @%p bra WAIT;
  mov.u32 %r0, %smid;
  mov.u32 %r1, %ctaid.x;
  cvta.to.global.u64 %rd5, %rd0;
  mul.wide.u32 %rd6, %r1, 4;
  add.u64 %rd7, %rd5, %rd6;
  st.global.u32 [%rd7], %r0;
  ret;
}}
"""
"""``spin(u64 out, u64 length_ns)``: waits, then stores the number of its SM, 4 bytes per block."""
