# ruff: noqa: N802, N816 - the vendor's names
"""Stand-in for the vendor's module of that name: one function per call of the library, by the same names.

Written from the interface, not from the vendor's code. As there: a status other than 0 is raised, text in
arguments by position becomes bytes, and arguments by keyword are lost on the way.
"""

import functools
from ctypes import (
    CFUNCTYPE,
    POINTER,
    byref,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_uint,
    c_uint16,
    c_uint32,
    c_void_p,
    py_object,
)

import dcgm_structs as structs
from variant import VERSION

dcgmFP = structs._dcgmGetFunctionPointer
_Value = POINTER(structs.c_dcgmFieldValue_v1)
dcgmFieldValueEnumeration_f = CFUNCTYPE(c_int32, c_uint32, _Value, c_int32, c_void_p)
dcgmFieldValueEntityEnumeration_f = CFUNCTYPE(c_int32, c_uint32, c_uint32, _Value, c_int32, c_void_p)


def _bytes_in(function):
    @functools.wraps(function)
    def call(*args, **_):
        return function(*(arg.encode() if isinstance(arg, str) else arg for arg in args))

    return call


def _call(name, *args):
    return structs._dcgmCheckReturn(dcgmFP(name)(*args))


def _handle_of(name, *args):
    handle = c_void_p()
    _call(name, *args, byref(handle))
    return handle


@_bytes_in
def dcgmInit():
    return _call("dcgmInit")


@_bytes_in
def dcgmShutdown():
    return _call("dcgmShutdown")


@_bytes_in
def dcgmStartEmbedded(opMode):
    return _handle_of("dcgmStartEmbedded", opMode)


@_bytes_in
def dcgmStopEmbedded(dcgm_handle):
    return _call("dcgmStopEmbedded", dcgm_handle)


@_bytes_in
def dcgmConnect(ip_address):
    return _handle_of("dcgmConnect", ip_address)


@_bytes_in
def dcgmConnect_v2(ip_address, connectParams, version=structs.c_dcgmConnectV2Params_version):
    connectParams.version = version
    return _handle_of("dcgmConnect_v2", ip_address, byref(connectParams))


if VERSION >= (4, 5):

    @_bytes_in
    def dcgmConnect_v3(connection_string, connectParams, version=structs.c_dcgmConnectV3Params_version):
        connectParams.version = version
        return _handle_of("dcgmConnect_v3", connection_string, byref(connectParams))


@_bytes_in
def dcgmDisconnect(dcgm_handle):
    return _call("dcgmDisconnect", dcgm_handle)


def _devices(name, handle):
    count, ids = c_uint(), (c_uint * structs.DCGM_MAX_NUM_DEVICES)()
    _call(name, handle, ids, byref(count))
    return list(ids[: count.value])


@_bytes_in
def dcgmGetAllSupportedDevices(dcgm_handle):
    return _devices("dcgmGetAllSupportedDevices", dcgm_handle)


@_bytes_in
def dcgmGetAllDevices(dcgm_handle):
    return _devices("dcgmGetAllDevices", dcgm_handle)


@_bytes_in
def dcgmGetEntityGroupEntities(dcgm_handle, entityGroup, flags):
    ids = (c_uint32 * structs.DCGM_GROUP_MAX_ENTITIES_V2)()
    count = c_int32(structs.DCGM_GROUP_MAX_ENTITIES_V2)
    _call("dcgmGetEntityGroupEntities", dcgm_handle, entityGroup, ids, byref(count), flags)
    return ids[: count.value]


@_bytes_in
def dcgmGetCpuHierarchy(dcgm_handle):
    return _filled("dcgmGetCpuHierarchy", structs.c_dcgmCpuHierarchy_v1, structs.dcgmCpuHierarchy_version1, dcgm_handle)


def _filled(name, struct, version, handle, *args, **preset):
    out = struct()
    out.version = version
    for key, value in preset.items():
        setattr(out, key, value)
    _call(name, handle, *args, byref(out))
    return out


@_bytes_in
def dcgmGetDeviceAttributes(dcgm_handle, gpuId, version=structs.dcgmDeviceAttributes_version3):
    if version != structs.dcgmDeviceAttributes_version3:
        raise structs.DCGMError(-12)
    return _filled("dcgmGetDeviceAttributes", structs.c_dcgmDeviceAttributes_v3, version, dcgm_handle, c_int(gpuId))


@_bytes_in
def dcgmGroupCreate(dcgm_handle, group_type, groupName):
    return _handle_of("dcgmGroupCreate", dcgm_handle, group_type, groupName)


@_bytes_in
def dcgmGroupDestroy(dcgm_handle, group_id):
    return _call("dcgmGroupDestroy", dcgm_handle, group_id)


@_bytes_in
def dcgmGroupAddDevice(dcgm_handle, group_id, gpu_id):
    return _call("dcgmGroupAddDevice", dcgm_handle, group_id, gpu_id)


@_bytes_in
def dcgmGroupAddEntity(dcgm_handle, group_id, entityGroupId, entityId):
    return _call("dcgmGroupAddEntity", dcgm_handle, group_id, entityGroupId, entityId)


@_bytes_in
def dcgmGroupGetInfo(dcgm_handle, group_id):
    struct = structs._group_info
    version = structs.make_dcgm_version(struct, structs._GROUP_INFO)
    return _filled("dcgmGroupGetInfo", struct, version, dcgm_handle, group_id)


@_bytes_in
def dcgmFieldGroupCreate(dcgm_handle, fieldIds, fieldGroupName):
    ids = (c_uint16 * len(fieldIds))(*fieldIds)
    return _handle_of("dcgmFieldGroupCreate", dcgm_handle, c_int32(len(fieldIds)), byref(ids), fieldGroupName)


@_bytes_in
def dcgmFieldGroupDestroy(dcgm_handle, fieldGroupId):
    return _call("dcgmFieldGroupDestroy", dcgm_handle, fieldGroupId)


@_bytes_in
def dcgmFieldGroupGetInfo(dcgm_handle, fieldGroupId):
    struct, version = structs.c_dcgmFieldGroupInfo_v1, structs.dcgmFieldGroupInfo_version1
    return _filled("dcgmFieldGroupGetInfo", struct, version, dcgm_handle, fieldGroupId=fieldGroupId)


@_bytes_in
def dcgmUpdateAllFields(dcgm_handle, waitForUpdate):
    return _call("dcgmUpdateAllFields", dcgm_handle, c_int(waitForUpdate))


@_bytes_in
def dcgmWatchFields(dcgm_handle, groupId, fieldGroupId, updateFreq, maxKeepAge, maxKeepSamples):
    freq, age, samples = c_int64(updateFreq), c_double(maxKeepAge), c_int32(maxKeepSamples)
    return _call("dcgmWatchFields", dcgm_handle, groupId, fieldGroupId, freq, age, samples)


@_bytes_in
def dcgmUnwatchFields(dcgm_handle, groupId, fieldGroupId):
    return _call("dcgmUnwatchFields", dcgm_handle, groupId, fieldGroupId)


def _values_since(name, handle, group, field_group, since, callback, user):
    following = c_int64()
    _call(name, handle, group, field_group, c_int64(since), byref(following), callback, py_object(user))
    return following.value


@_bytes_in
def dcgmGetValuesSince(dcgm_handle, groupId, fieldGroupId, sinceTimestamp, enumCB, userData):
    return _values_since("dcgmGetValuesSince", dcgm_handle, groupId, fieldGroupId, sinceTimestamp, enumCB, userData)


@_bytes_in
def dcgmGetValuesSince_v2(dcgm_handle, groupId, fieldGroupId, sinceTimestamp, enumCB, userData):
    return _values_since("dcgmGetValuesSince_v2", dcgm_handle, groupId, fieldGroupId, sinceTimestamp, enumCB, userData)


@_bytes_in
def dcgmGetLatestValues(dcgm_handle, groupId, fieldGroupId, enumCB, userData):
    return _call("dcgmGetLatestValues", dcgm_handle, groupId, fieldGroupId, enumCB, py_object(userData))


@_bytes_in
def dcgmGetLatestValues_v2(dcgm_handle, groupId, fieldGroupId, enumCB, userData):
    return _call("dcgmGetLatestValues_v2", dcgm_handle, groupId, fieldGroupId, enumCB, py_object(userData))


@_bytes_in
def dcgmEntitiesGetLatestValues(dcgmHandle, entities, fieldIds, flags):
    out = (structs.c_dcgmFieldValue_v2 * (len(fieldIds) * len(entities)))()
    pairs = (structs.c_dcgmGroupEntityPair_t * len(entities))(*entities)
    ids = (c_uint16 * len(fieldIds))(*fieldIds)
    _call(
        "dcgmEntitiesGetLatestValues", dcgmHandle, pairs, c_uint(len(entities)), ids, c_uint(len(fieldIds)), flags, out
    )
    return out


@_bytes_in
def dcgmProfGetSupportedMetricGroups(dcgmHandle, gpuId):
    struct, version = structs.c_dcgmProfGetMetricGroups_v3, structs.dcgmProfGetMetricGroups_version3
    return _filled("dcgmProfGetSupportedMetricGroups", struct, version, dcgmHandle, gpuId=gpuId)


@_bytes_in
def dcgmProfPause(dcgmHandle):
    return _call("dcgmProfPause", dcgmHandle)


@_bytes_in
def dcgmProfResume(dcgmHandle):
    return _call("dcgmProfResume", dcgmHandle)


@_bytes_in
def dcgmVersionInfo():
    out = structs.c_dcgmVersionInfo_v2()
    out.version = structs.dcgmVersionInfo_version2
    _call("dcgmVersionInfo", byref(out))
    return out
