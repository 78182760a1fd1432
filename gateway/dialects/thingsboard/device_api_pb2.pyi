from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CredentialsType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_TOKEN: _ClassVar[CredentialsType]
    X509_CERTIFICATE: _ClassVar[CredentialsType]
    MQTT_BASIC: _ClassVar[CredentialsType]
    LWM2M_CREDENTIALS: _ClassVar[CredentialsType]

class ResponseStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[ResponseStatus]
    SUCCESS: _ClassVar[ResponseStatus]
    NOT_FOUND: _ClassVar[ResponseStatus]
    FAILURE: _ClassVar[ResponseStatus]

class KeyValueType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOOLEAN_V: _ClassVar[KeyValueType]
    LONG_V: _ClassVar[KeyValueType]
    DOUBLE_V: _ClassVar[KeyValueType]
    STRING_V: _ClassVar[KeyValueType]
    JSON_V: _ClassVar[KeyValueType]
ACCESS_TOKEN: CredentialsType
X509_CERTIFICATE: CredentialsType
MQTT_BASIC: CredentialsType
LWM2M_CREDENTIALS: CredentialsType
UNKNOWN: ResponseStatus
SUCCESS: ResponseStatus
NOT_FOUND: ResponseStatus
FAILURE: ResponseStatus
BOOLEAN_V: KeyValueType
LONG_V: KeyValueType
DOUBLE_V: KeyValueType
STRING_V: KeyValueType
JSON_V: KeyValueType

class ProvisionDeviceCredentialsMsg(_message.Message):
    __slots__ = ("provisionDeviceKey", "provisionDeviceSecret")
    PROVISIONDEVICEKEY_FIELD_NUMBER: _ClassVar[int]
    PROVISIONDEVICESECRET_FIELD_NUMBER: _ClassVar[int]
    provisionDeviceKey: str
    provisionDeviceSecret: str
    def __init__(self, provisionDeviceKey: _Optional[str] = ..., provisionDeviceSecret: _Optional[str] = ...) -> None: ...

class ValidateDeviceTokenRequestMsg(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class ValidateDeviceX509CertRequestMsg(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: str
    def __init__(self, hash: _Optional[str] = ...) -> None: ...

class ValidateBasicMqttCredRequestMsg(_message.Message):
    __slots__ = ("clientId", "userName", "password")
    CLIENTID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    clientId: str
    userName: str
    password: str
    def __init__(self, clientId: _Optional[str] = ..., userName: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class CredentialsDataProto(_message.Message):
    __slots__ = ("validateDeviceTokenRequestMsg", "validateDeviceX509CertRequestMsg", "validateBasicMqttCredRequestMsg")
    VALIDATEDEVICETOKENREQUESTMSG_FIELD_NUMBER: _ClassVar[int]
    VALIDATEDEVICEX509CERTREQUESTMSG_FIELD_NUMBER: _ClassVar[int]
    VALIDATEBASICMQTTCREDREQUESTMSG_FIELD_NUMBER: _ClassVar[int]
    validateDeviceTokenRequestMsg: ValidateDeviceTokenRequestMsg
    validateDeviceX509CertRequestMsg: ValidateDeviceX509CertRequestMsg
    validateBasicMqttCredRequestMsg: ValidateBasicMqttCredRequestMsg
    def __init__(self, validateDeviceTokenRequestMsg: _Optional[_Union[ValidateDeviceTokenRequestMsg, _Mapping]] = ..., validateDeviceX509CertRequestMsg: _Optional[_Union[ValidateDeviceX509CertRequestMsg, _Mapping]] = ..., validateBasicMqttCredRequestMsg: _Optional[_Union[ValidateBasicMqttCredRequestMsg, _Mapping]] = ...) -> None: ...

class ProvisionDeviceRequestMsg(_message.Message):
    __slots__ = ("deviceName", "credentialsType", "provisionDeviceCredentialsMsg", "credentialsDataProto", "gateway", "nonce", "oldCredential", "claimCode", "dryRun", "hardware")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALSTYPE_FIELD_NUMBER: _ClassVar[int]
    PROVISIONDEVICECREDENTIALSMSG_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALSDATAPROTO_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    OLDCREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CLAIMCODE_FIELD_NUMBER: _ClassVar[int]
    DRYRUN_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    credentialsType: CredentialsType
    provisionDeviceCredentialsMsg: ProvisionDeviceCredentialsMsg
    credentialsDataProto: CredentialsDataProto
    gateway: bool
    nonce: str
    oldCredential: str
    claimCode: str
    dryRun: bool
    hardware: str
    def __init__(self, deviceName: _Optional[str] = ..., credentialsType: _Optional[_Union[CredentialsType, str]] = ..., provisionDeviceCredentialsMsg: _Optional[_Union[ProvisionDeviceCredentialsMsg, _Mapping]] = ..., credentialsDataProto: _Optional[_Union[CredentialsDataProto, _Mapping]] = ..., gateway: bool = ..., nonce: _Optional[str] = ..., oldCredential: _Optional[str] = ..., claimCode: _Optional[str] = ..., dryRun: bool = ..., hardware: _Optional[str] = ...) -> None: ...

class ProvisionDeviceResponseMsg(_message.Message):
    __slots__ = ("status", "credentialsType", "credentialsValue", "retryAfter", "code", "rehearsal", "members")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALSTYPE_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALSVALUE_FIELD_NUMBER: _ClassVar[int]
    RETRYAFTER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    status: ResponseStatus
    credentialsType: CredentialsType
    credentialsValue: str
    retryAfter: int
    code: str
    rehearsal: str
    members: str
    def __init__(self, status: _Optional[_Union[ResponseStatus, str]] = ..., credentialsType: _Optional[_Union[CredentialsType, str]] = ..., credentialsValue: _Optional[str] = ..., retryAfter: _Optional[int] = ..., code: _Optional[str] = ..., rehearsal: _Optional[str] = ..., members: _Optional[str] = ...) -> None: ...

class KeyValueProto(_message.Message):
    __slots__ = ("key", "type", "bool_v", "long_v", "double_v", "string_v", "json_v")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BOOL_V_FIELD_NUMBER: _ClassVar[int]
    LONG_V_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_V_FIELD_NUMBER: _ClassVar[int]
    STRING_V_FIELD_NUMBER: _ClassVar[int]
    JSON_V_FIELD_NUMBER: _ClassVar[int]
    key: str
    type: KeyValueType
    bool_v: bool
    long_v: int
    double_v: float
    string_v: str
    json_v: str
    def __init__(self, key: _Optional[str] = ..., type: _Optional[_Union[KeyValueType, str]] = ..., bool_v: bool = ..., long_v: _Optional[int] = ..., double_v: _Optional[float] = ..., string_v: _Optional[str] = ..., json_v: _Optional[str] = ...) -> None: ...

class TsKvProto(_message.Message):
    __slots__ = ("ts", "kv", "version")
    TS_FIELD_NUMBER: _ClassVar[int]
    KV_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ts: int
    kv: KeyValueProto
    version: int
    def __init__(self, ts: _Optional[int] = ..., kv: _Optional[_Union[KeyValueProto, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class TsKvListProto(_message.Message):
    __slots__ = ("ts", "kv")
    TS_FIELD_NUMBER: _ClassVar[int]
    KV_FIELD_NUMBER: _ClassVar[int]
    ts: int
    kv: _containers.RepeatedCompositeFieldContainer[KeyValueProto]
    def __init__(self, ts: _Optional[int] = ..., kv: _Optional[_Iterable[_Union[KeyValueProto, _Mapping]]] = ...) -> None: ...

class PostTelemetryMsg(_message.Message):
    __slots__ = ("tsKvList",)
    TSKVLIST_FIELD_NUMBER: _ClassVar[int]
    tsKvList: _containers.RepeatedCompositeFieldContainer[TsKvListProto]
    def __init__(self, tsKvList: _Optional[_Iterable[_Union[TsKvListProto, _Mapping]]] = ...) -> None: ...

class PostAttributeMsg(_message.Message):
    __slots__ = ("kv", "shared")
    KV_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    kv: _containers.RepeatedCompositeFieldContainer[KeyValueProto]
    shared: bool
    def __init__(self, kv: _Optional[_Iterable[_Union[KeyValueProto, _Mapping]]] = ..., shared: bool = ...) -> None: ...

class AttributesRequest(_message.Message):
    __slots__ = ("clientKeys", "sharedKeys")
    CLIENTKEYS_FIELD_NUMBER: _ClassVar[int]
    SHAREDKEYS_FIELD_NUMBER: _ClassVar[int]
    clientKeys: str
    sharedKeys: str
    def __init__(self, clientKeys: _Optional[str] = ..., sharedKeys: _Optional[str] = ...) -> None: ...

class GetAttributeResponseMsg(_message.Message):
    __slots__ = ("requestId", "clientAttributeList", "sharedAttributeList", "isMultipleAttributesRequest", "error", "sharedStateMsg")
    REQUESTID_FIELD_NUMBER: _ClassVar[int]
    CLIENTATTRIBUTELIST_FIELD_NUMBER: _ClassVar[int]
    SHAREDATTRIBUTELIST_FIELD_NUMBER: _ClassVar[int]
    ISMULTIPLEATTRIBUTESREQUEST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SHAREDSTATEMSG_FIELD_NUMBER: _ClassVar[int]
    requestId: int
    clientAttributeList: _containers.RepeatedCompositeFieldContainer[TsKvProto]
    sharedAttributeList: _containers.RepeatedCompositeFieldContainer[TsKvProto]
    isMultipleAttributesRequest: bool
    error: str
    sharedStateMsg: bool
    def __init__(self, requestId: _Optional[int] = ..., clientAttributeList: _Optional[_Iterable[_Union[TsKvProto, _Mapping]]] = ..., sharedAttributeList: _Optional[_Iterable[_Union[TsKvProto, _Mapping]]] = ..., isMultipleAttributesRequest: bool = ..., error: _Optional[str] = ..., sharedStateMsg: bool = ...) -> None: ...

class AttributeUpdateNotificationMsg(_message.Message):
    __slots__ = ("sharedUpdated", "sharedDeleted")
    SHAREDUPDATED_FIELD_NUMBER: _ClassVar[int]
    SHAREDDELETED_FIELD_NUMBER: _ClassVar[int]
    sharedUpdated: _containers.RepeatedCompositeFieldContainer[TsKvProto]
    sharedDeleted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sharedUpdated: _Optional[_Iterable[_Union[TsKvProto, _Mapping]]] = ..., sharedDeleted: _Optional[_Iterable[str]] = ...) -> None: ...

class RpcRequest(_message.Message):
    __slots__ = ("method", "params")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    method: str
    params: str
    def __init__(self, method: _Optional[str] = ..., params: _Optional[str] = ...) -> None: ...

class ToDeviceRpcRequestMsg(_message.Message):
    __slots__ = ("requestId", "methodName", "params", "expirationTime", "requestIdMSB", "requestIdLSB", "oneway", "persisted", "retries", "additionalInfo")
    REQUESTID_FIELD_NUMBER: _ClassVar[int]
    METHODNAME_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    EXPIRATIONTIME_FIELD_NUMBER: _ClassVar[int]
    REQUESTIDMSB_FIELD_NUMBER: _ClassVar[int]
    REQUESTIDLSB_FIELD_NUMBER: _ClassVar[int]
    ONEWAY_FIELD_NUMBER: _ClassVar[int]
    PERSISTED_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    ADDITIONALINFO_FIELD_NUMBER: _ClassVar[int]
    requestId: int
    methodName: str
    params: str
    expirationTime: int
    requestIdMSB: int
    requestIdLSB: int
    oneway: bool
    persisted: bool
    retries: int
    additionalInfo: str
    def __init__(self, requestId: _Optional[int] = ..., methodName: _Optional[str] = ..., params: _Optional[str] = ..., expirationTime: _Optional[int] = ..., requestIdMSB: _Optional[int] = ..., requestIdLSB: _Optional[int] = ..., oneway: bool = ..., persisted: bool = ..., retries: _Optional[int] = ..., additionalInfo: _Optional[str] = ...) -> None: ...

class ToServerRpcResponseMsg(_message.Message):
    __slots__ = ("requestId", "payload", "error")
    REQUESTID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    requestId: int
    payload: str
    error: str
    def __init__(self, requestId: _Optional[int] = ..., payload: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class ClaimDevice(_message.Message):
    __slots__ = ("secretKey", "durationMs")
    SECRETKEY_FIELD_NUMBER: _ClassVar[int]
    DURATIONMS_FIELD_NUMBER: _ClassVar[int]
    secretKey: str
    durationMs: int
    def __init__(self, secretKey: _Optional[str] = ..., durationMs: _Optional[int] = ...) -> None: ...

class ConnectMsg(_message.Message):
    __slots__ = ("deviceName", "deviceType")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    DEVICETYPE_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    deviceType: str
    def __init__(self, deviceName: _Optional[str] = ..., deviceType: _Optional[str] = ...) -> None: ...

class DisconnectMsg(_message.Message):
    __slots__ = ("deviceName",)
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    def __init__(self, deviceName: _Optional[str] = ...) -> None: ...

class GatewayDisconnectDeviceMsg(_message.Message):
    __slots__ = ("deviceName", "reasonCode")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    REASONCODE_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    reasonCode: int
    def __init__(self, deviceName: _Optional[str] = ..., reasonCode: _Optional[int] = ...) -> None: ...

class TelemetryMsg(_message.Message):
    __slots__ = ("deviceName", "msg")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    MSG_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    msg: PostTelemetryMsg
    def __init__(self, deviceName: _Optional[str] = ..., msg: _Optional[_Union[PostTelemetryMsg, _Mapping]] = ...) -> None: ...

class GatewayTelemetryMsg(_message.Message):
    __slots__ = ("msg",)
    MSG_FIELD_NUMBER: _ClassVar[int]
    msg: _containers.RepeatedCompositeFieldContainer[TelemetryMsg]
    def __init__(self, msg: _Optional[_Iterable[_Union[TelemetryMsg, _Mapping]]] = ...) -> None: ...

class AttributesMsg(_message.Message):
    __slots__ = ("deviceName", "msg")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    MSG_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    msg: PostAttributeMsg
    def __init__(self, deviceName: _Optional[str] = ..., msg: _Optional[_Union[PostAttributeMsg, _Mapping]] = ...) -> None: ...

class GatewayAttributesMsg(_message.Message):
    __slots__ = ("msg",)
    MSG_FIELD_NUMBER: _ClassVar[int]
    msg: _containers.RepeatedCompositeFieldContainer[AttributesMsg]
    def __init__(self, msg: _Optional[_Iterable[_Union[AttributesMsg, _Mapping]]] = ...) -> None: ...

class ClaimDeviceMsg(_message.Message):
    __slots__ = ("deviceName", "claimRequest")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    CLAIMREQUEST_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    claimRequest: ClaimDevice
    def __init__(self, deviceName: _Optional[str] = ..., claimRequest: _Optional[_Union[ClaimDevice, _Mapping]] = ...) -> None: ...

class GatewayClaimMsg(_message.Message):
    __slots__ = ("msg",)
    MSG_FIELD_NUMBER: _ClassVar[int]
    msg: _containers.RepeatedCompositeFieldContainer[ClaimDeviceMsg]
    def __init__(self, msg: _Optional[_Iterable[_Union[ClaimDeviceMsg, _Mapping]]] = ...) -> None: ...

class GatewayRpcResponseMsg(_message.Message):
    __slots__ = ("deviceName", "id", "data")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    id: int
    data: str
    def __init__(self, deviceName: _Optional[str] = ..., id: _Optional[int] = ..., data: _Optional[str] = ...) -> None: ...

class GatewayAttributesRequestMsg(_message.Message):
    __slots__ = ("id", "deviceName", "client", "keys")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    id: int
    deviceName: str
    client: bool
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., deviceName: _Optional[str] = ..., client: bool = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class GatewayAttributeResponseMsg(_message.Message):
    __slots__ = ("deviceName", "responseMsg")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    RESPONSEMSG_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    responseMsg: GetAttributeResponseMsg
    def __init__(self, deviceName: _Optional[str] = ..., responseMsg: _Optional[_Union[GetAttributeResponseMsg, _Mapping]] = ...) -> None: ...

class GatewayAttributeUpdateNotificationMsg(_message.Message):
    __slots__ = ("deviceName", "notificationMsg")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATIONMSG_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    notificationMsg: AttributeUpdateNotificationMsg
    def __init__(self, deviceName: _Optional[str] = ..., notificationMsg: _Optional[_Union[AttributeUpdateNotificationMsg, _Mapping]] = ...) -> None: ...

class GatewayDeviceRpcRequestMsg(_message.Message):
    __slots__ = ("deviceName", "rpcRequestMsg")
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    RPCREQUESTMSG_FIELD_NUMBER: _ClassVar[int]
    deviceName: str
    rpcRequestMsg: ToDeviceRpcRequestMsg
    def __init__(self, deviceName: _Optional[str] = ..., rpcRequestMsg: _Optional[_Union[ToDeviceRpcRequestMsg, _Mapping]] = ...) -> None: ...
