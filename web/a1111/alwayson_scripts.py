"""Reads `alwayson_scripts`, the arguments of extensions: the memory policy, and extensions that are switched off."""

from collections.abc import Mapping
from typing import Any

from memo import BadRecipe
from web.json_body import to_switch

SCRIPT = "memoaized"  # the script whose argument is the memory policy
# A unit is one tab of an extension such as ControlNet, sent as an object. Its fields that matter here:
SWITCHES = ("enabled", "enable", "is_enabled", "active", "ad_tab_enable")  # whether it is on
MODELS = ("ad_model",)  # its model, without which it does nothing


def read_policy(scripts: Mapping[str, Any]) -> str:
    """The memory policy; "" without one. Raises BadRecipe for any other script that is switched on."""
    policy = ""
    for name, values in scripts.items():
        if name.casefold() == SCRIPT:
            policy = read_memory_policy(values)
        elif not is_off(values):
            raise BadRecipe(f"alwayson_scripts.{name}", "on", "this server has no such extension: switch it off")
    return policy


def read_memory_policy(values: Any) -> str:
    """The policy in the arguments of the script; "" without one. Raises BadRecipe."""
    policies = [policy for policy in map(policy_of, arguments_of(values)) if policy]
    if len(policies) > 1:
        raise BadRecipe(f"alwayson_scripts.{SCRIPT}", values, "send only one memory policy")
    return policies[0] if policies else ""


def policy_of(argument: object) -> str:
    """The policy in one argument, which is its name or an object such as {"memo": "off"}; raises BadRecipe."""
    if isinstance(argument, Mapping) and not set(argument) - {"memo"}:
        argument = argument.get("memo")
    if argument is None or isinstance(argument, str):
        return (argument or "").strip().casefold()
    raise BadRecipe(f"alwayson_scripts.{SCRIPT}", argument, 'send an object such as {"args": [{"memo": "off"}]}')


def arguments_of(values: Any) -> list[Any]:
    """The arguments of a script, however they are wrapped."""
    if isinstance(values, Mapping):
        values = values["args"] if "args" in values else [values] if values else []
    return values if isinstance(values, list) else [values]


def is_off(values: Any) -> bool:
    """Whether a script does nothing with these arguments.

    The arguments may begin with on/off switches: if the first is off, so is the script. All other arguments are
    units: the script is off if every unit is.
    """
    arguments = [argument for argument in arguments_of(values) if argument is not None]
    if not arguments or to_switch(arguments[0]) is False:
        return True
    units = [argument for argument in arguments if not isinstance(to_switch(argument), bool)]
    return bool(units) and all(isinstance(unit, Mapping) and is_unit_off(unit) for unit in units)


def is_unit_off(unit: Mapping[str, Any]) -> bool:
    """Whether a unit is switched off, or has no model."""
    switched_off = any(to_switch(unit[name]) in (False, None) for name in SWITCHES if name in unit)
    return switched_off or any(str(unit[name]).strip().casefold() in ("", "none") for name in MODELS if name in unit)
