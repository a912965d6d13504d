"""Garbage collection: the plan, retention rules, and the collector over fake stores."""
