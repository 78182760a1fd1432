"""ThingsBoard's Python REST client (`tb-rest-client`), doing an operator's day; 4.3 and 4.4 alike.

Reads jobs from standard input, one a line: `url`, `admin` and `customer` (`user`, `password`), and
what devices and profiles are called; prints what the client made of the answers, or what it raised.
"""

import json
import sys
import traceback

from tb_rest_client.rest import ApiException

try:
    from tb_rest_client.models import models_ce as models
    from tb_rest_client.rest_client_ce import RestClientCE as Client
except ImportError:
    from tb_rest_client import RestClient as Client
    from tb_rest_client import models

ANY = {"configuration": {"type": "DEFAULT"}, "transportConfiguration": {"type": "DEFAULT"}}


def client(job, who):
    made = Client(base_url=job["url"])
    made.login(username=who["user"], password=who["password"])
    return made


def refusal(work):
    """The HTTP status and the JSON of an answer that the client raised."""
    try:
        work()
    except ApiException as refused:
        return [refused.status, json.loads(refused.body)]
    return [200, None]


def profiles(job):
    """Save, read, list, change and remove profiles."""
    api, name = client(job, job["admin"]), job["name"]
    provision = {"type": "ALLOW_CREATE_NEW_DEVICES", "provisionDeviceSecret": name + "-secret"}
    saved = api.save_device_profile(
        models.DeviceProfile(
            name=name,
            type="DEFAULT",
            transport_type="DEFAULT",
            provision_type="ALLOW_CREATE_NEW_DEVICES",
            provision_device_key=name + "-key",
            profile_data={**ANY, "provisionConfiguration": provision},
        )
    )
    read = api.get_device_profile_by_id(saved.id)
    old_version = read.version
    read.description = "changed"
    changed = api.save_device_profile(read)
    stale = read
    stale.version = old_version
    generated = api.save_device_profile(
        models.DeviceProfile(
            name=name + "-made",
            type="DEFAULT",
            transport_type="DEFAULT",
            provision_type="CHECK_PRE_PROVISIONED_DEVICES",
            profile_data={
                **ANY,
                "provisionConfiguration": {"type": "CHECK_PRE_PROVISIONED_DEVICES"},
            },
        )
    )
    page = api.get_device_profiles(page_size=100, page=0, text_search=name)
    twice = refusal(
        lambda: api.save_device_profile(
            models.DeviceProfile(
                name=name, type="DEFAULT", transport_type="DEFAULT", profile_data=ANY
            )
        )
    )
    conflict = refusal(lambda: api.save_device_profile(stale))
    default = api.get_default_device_profile_info()
    api.delete_device_profile(generated.id)
    gone = refusal(lambda: api.get_device_profile_by_id(generated.id))
    return {
        "name": read.name,
        "key": saved.provision_device_key,
        "made_key": generated.provision_device_key,
        "description": changed.description,
        "versions": [old_version, changed.version],
        "listed": sorted(one.name for one in page.data),
        "total": page.total_elements,
        "default": default.name,
        "twice": twice,
        "conflict": conflict[0],
        "gone": gone[0],
    }


def devices(job):
    """Save, find, change and remove devices, and change their credentials."""
    api, name = client(job, job["admin"]), job["name"]
    kind = api.save_device_profile(
        models.DeviceProfile(
            name=job["type"], type="DEFAULT", transport_type="DEFAULT", profile_data=ANY
        )
    )

    def device(name, **more):
        return models.Device(name=name, type=job["type"], device_profile_id=kind.id, **more)

    saved = api.save_device(device(name, label="hall"))
    given = api.save_device(device(name + "-t"), access_token=job["token"])
    found = api.get_tenant_device(name)
    by_id = api.get_device_by_id(saved.id)
    with_credentials = api.save_device_with_credentials(
        models.SaveDeviceWithCredentialsRequest(
            device=device(name + "-m"),
            credentials=models.DeviceCredentials(
                credentials_type="MQTT_BASIC",
                credentials_id="",
                credentials_value=json.dumps(
                    {"clientId": name + "-c", "userName": name + "-u", "password": "p4ss-" + name}
                ),
            ),
        )
    )
    shown = api.get_device_credentials_by_device_id(saved.id)
    before = shown.credentials_id
    shown.credentials_id = job["new_token"]
    changed = api.update_device_credentials(shown)
    stolen = api.get_device_credentials_by_device_id(given.id)
    stolen.credentials_id = job["new_token"]
    taken = refusal(lambda: api.update_device_credentials(stolen))
    by_id.label = "attic"
    moved = api.save_device(by_id)
    page = api.get_tenant_devices(
        page_size=2, page=0, text_search=name, sort_property="name", sort_order="ASC"
    )
    customer = api.save_customer(models.Customer(title=name + " Ltd"))
    assigned = api.assign_device_to_customer(customer.id, saved.id)
    twice = refusal(lambda: api.save_device(device(name)))
    basic = api.get_device_credentials_by_device_id(with_credentials.id)
    unassigned = api.unassign_device_from_customer(saved.id)
    api.delete_device(given.id)
    gone = refusal(lambda: api.get_device_by_id(given.id))
    return {
        "found": found.id.id == saved.id.id,
        "type": found.type,
        "token_length": len(before),
        "given": stolen.credentials_type,
        "changed": changed.credentials_id,
        "taken": taken,
        "label": moved.label,
        "page": [one.name for one in page.data],
        "more": page.has_next,
        "total": page.total_elements,
        "customer": assigned.customer_id.id == customer.id.id,
        "free": unassigned.customer_id.id != customer.id.id,
        "basic": [basic.credentials_type, json.loads(basic.credentials_value)["userName"]],
        "twice": twice,
        "gone": gone[0],
        "id": saved.id.id,
    }


def imports(job):
    """Import a few lines, twice."""
    api, name = client(job, job["admin"]), job["name"]
    lines = f"NAME,TYPE,DATA\n{name}-1,{job['type']},1\n{name}-2,{job['type']},2\n,x,3\n"
    columns = [
        models.ColumnMapping(type="NAME"),
        models.ColumnMapping(type="TYPE"),
        models.ColumnMapping(type="SERVER_ATTRIBUTE", key="DATA"),
    ]

    def once():
        body = models.BulkImportRequest(
            file=lines,
            mapping=models.Mapping(columns=columns, delimiter=",", header=True, update=True),
        )
        done = api.process_devices_bulk_import(body=body)
        return {
            "counts": [number(one) for one in (done.created, done.updated, done.errors)],
            "said": list(done.errors_list),
        }

    first, second = once(), once()
    device = api.get_tenant_device(name + "-2")
    return {
        "first": first,
        "second": second,
        "attributes": plain(api.get_attributes_by_scope(device.id, "SERVER_SCOPE", keys="DATA")),
    }


def traffic(job):
    """Attributes, what a device sent, and a call to one that is away."""
    api = client(job, job["admin"])
    device = api.get_tenant_device(job["name"])
    api.save_entity_attributes_v1(device.id, "SHARED_SCOPE", {"interval": 30, "on": True})
    shared = plain(api.get_attributes_by_scope(device.id, "SHARED_SCOPE", keys="interval,on"))
    api.delete_entity_attributes(device.id, "SHARED_SCOPE", keys="on")
    left = plain(api.get_attributes_by_scope(device.id, "SHARED_SCOPE"))
    keys = api.get_timeseries_keys_v1(device.id)
    latest = api.get_latest_timeseries(device.id, keys="temperature")
    call = {"method": "getState", "params": {}, "timeout": 5000}
    away = refusal(lambda: api.handle_two_way_device_rpc_request_v1(device.id, call))
    return {
        "shared": shared,
        "left": [one["key"] for one in left],
        "keys": plain(keys),
        "latest": plain(latest),
        "away": away[0],
    }


def claims(job):
    """A customer's user claims a device, and gives it back."""
    api, device = client(job, job["customer"]), job["name"]
    call = getattr(api, "claim_device_by_name", None)
    if call is None:
        controller = api.device_controller
        call = (
            getattr(controller, "claim_device_using_post1", None)
            or controller.claim_device_using_post
        )

    def claim(key):
        return call(device_name=device, body=models.ClaimRequest(secret_key=key))

    return {
        "claimed": plain(claim(job["key"])),
        "seen": refusal(lambda: api.get_device_by_id(job["id"]))[0],
        "other": refusal(lambda: api.get_device_by_id(job["other"]))[0],
        "saved": refusal(
            lambda: api.save_device_profile(
                models.DeviceProfile(name="no", type="DEFAULT", transport_type="DEFAULT")
            )
        )[0],
        "reclaimed": refusal(lambda: api.re_claim_device(device))[0],
        "gone": refusal(lambda: api.get_device_by_id(job["id"]))[0],
        "nothing": refusal(lambda: claim(job["key"])),
    }


def number(value):
    """4.3 cannot build its model of a count (Java's AtomicInteger) of the number that is sent."""
    return value if isinstance(value, int) else None


def plain(value):
    """Models as the JSON they stand for."""
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


def login(job):
    """A wrong password; then a right one, and who that is."""
    wrong = 0
    try:
        # 4.3 goes on with no token; 4.4 raises.
        wrong = refusal(client(job, {**job["admin"], "password": "not-the-password"}).get_user)[0]
    except Exception as exc:
        wrong = f"{type(exc).__name__}"
    api = client(job, job["admin"])
    user = api.get_user()
    api.logout()
    return {
        "wrong": wrong,
        "email": user.email,
        "authority": plain(user.authority),
        "after": refusal(api.get_user)[0],
    }


def audit(job):
    """Make and change a device, and read who did what: all of it, by entity, by user, by kind."""
    api, name = client(job, job["admin"]), job["name"]
    profile = api.get_default_device_profile_info().id
    made = api.save_device(models.Device(name=name, type="default", device_profile_id=profile))
    of_it = api.get_audit_logs_by_entity_id(made.id, 10, 0)
    api.delete_device(made.id)
    me = api.get_user()
    logs = api.get_audit_logs(
        page_size=10, page=0, text_search=name, sort_property="createdTime", sort_order="ASC"
    )
    deleted = api.get_audit_logs(page_size=10, page=0, text_search=name, action_types="DELETED")
    mine = api.get_audit_logs_by_user_id(me.id, 10, 0, text_search=name)
    first = logs.data[0]
    return {
        "actions": [one.action_type for one in logs.data],
        "statuses": sorted({one.action_status for one in logs.data}),
        "users": sorted({one.user_name for one in logs.data}),
        "name": first.entity_name,
        "kind": first.entity_id.entity_type,
        "tenant": first.tenant_id.id == me.tenant_id.id,
        "user": first.user_id.id == me.id.id,
        "more": logs.has_next,
        "total": logs.total_elements,
        "deleted": [one.entity_name for one in deleted.data],
        "mine": len(mine.data),
        "of_it": [one.entity_id.id == made.id.id for one in of_it.data],
    }


JOBS = {one.__name__: one for one in (login, profiles, devices, imports, traffic, claims, audit)}


def main():
    for line in sys.stdin:
        job = json.loads(line)
        try:
            told = JOBS[job["do"]](job)
        except Exception:
            told = {"raised": traceback.format_exc()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
