"""Kinds of values and entities. Fields are asked for by number: their names differ between versions."""

import ctypes

DCGM_FT_BINARY, DCGM_FT_DOUBLE, DCGM_FT_INT64, DCGM_FT_STRING = map(ord, "bdis")
DCGM_FE_NONE, DCGM_FE_GPU, DCGM_FE_VGPU, DCGM_FE_SWITCH, DCGM_FE_GPU_I, DCGM_FE_GPU_CI = range(6)
DCGM_FE_CPU = 7

c_dcgm_field_eid_t = ctypes.c_uint32
