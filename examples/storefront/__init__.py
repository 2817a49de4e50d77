"""The storefront example: real touchpoints of a shop, mapped to tracking calls."""
