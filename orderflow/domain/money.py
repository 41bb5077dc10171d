"""Money: an integer amount in minor units, and an ISO 4217 currency."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

MAX_AMOUNT: Final = 2**53 - 1
"""The largest amount, in minor units. It is the largest integer that every JSON reader keeps exact."""

# ISO 4217, list one: the active codes of money (no metals, funds or test codes), by their number of minor digits.
_BY_MINOR_DIGITS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF"
        " CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL"
        " HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT"
        " MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB"
        " SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH"
        " USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
}
MINOR_DIGITS: Final = {code: digits for digits, codes in _BY_MINOR_DIGITS.items() for code in codes.split()}


def _known_currency(code: str) -> str:
    if code not in MINOR_DIGITS:
        raise PydanticCustomError("unknown_currency", "this is no ISO 4217 currency code")
    return code


_CODES: Final = WithJsonSchema({"type": "string", "enum": sorted(MINOR_DIGITS)})

# A named alias, so that a JSON Schema lists the 160 codes once and refers to them.
Currency = TypeAliasType("Currency", Annotated[str, AfterValidator(_known_currency), _CODES])
Amount = Annotated[int, Field(strict=True, ge=0, le=MAX_AMOUNT)]


def show(amount: int, currency: str) -> str:
    """The amount for people: `1234, "EUR"` gives `12.34 EUR`, `1234, "JPY"` gives `1,234 JPY`."""
    digits = MINOR_DIGITS.get(currency, 2)
    whole, rest = divmod(abs(amount), 10**digits)
    sign = "-" if amount < 0 else ""
    fraction = f".{rest:0{digits}d}" if digits else ""
    return f"{sign}{whole:,}{fraction} {currency}"
