"""Which attributes of a target layer SamTune fills, and how to add those that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qgis.core import QgsField, QgsVectorLayer
from qgis.PyQt.QtCore import QCoreApplication, QMetaType

from ..engine.provenance import CLASS, FIELDS, FieldType
from ..models.errors import OutputError

_QT_TYPES: dict[FieldType, QMetaType.Type] = {
    FieldType.TEXT: QMetaType.Type.QString,
    FieldType.NUMBER: QMetaType.Type.Double,
    FieldType.TIME: QMetaType.Type.QDateTime,
    FieldType.FLAG: QMetaType.Type.Bool,
}

FIELD_TYPES: dict[str, QMetaType.Type] = {name: _QT_TYPES[kind] for name, kind in FIELDS.items()}
"""Names and types of the attributes, in order."""

NUMERIC = (QMetaType.Type.Int, QMetaType.Type.LongLong, QMetaType.Type.Double, QMetaType.Type.UInt)


@dataclass(frozen=True)
class FieldPlan:
    """How the attributes map to a layer's fields.

    Attributes:
        indices: attribute name to field index, for those that exist.
        fields: attribute name to the layer's field.
        missing: names of attributes that the layer has no field for.
    """

    indices: dict[str, int]
    fields: dict[str, QgsField]
    missing: tuple[str, ...]

    def attributes(self, values: Mapping[str, object]) -> dict[int, object]:
        """Return the values by field index, converted to the fields' types; what is unknown is left to defaults.

        Raises:
            OutputError: the class does not fit its field. (Other attributes that do not fit are left out.)
        """
        found: dict[int, object] = {}
        for name, index in self.indices.items():
            value = values.get(name)
            if value is None:
                continue
            field = self.fields[name]
            converted = converted_value(field, value)
            if converted is not None:
                found[index] = converted
            elif name == CLASS:
                raise OutputError(
                    QCoreApplication.translate(
                        "TargetFields", "The class “{value}” does not fit the field “{field}”, which holds {type}."
                    ).format(value=value, field=field.displayName(), type=field.displayType())
                )
        return found


def plan_fields(layer: QgsVectorLayer, class_field: str, with_class: bool) -> FieldPlan:  # noqa: FBT001 - two facts
    """Match the attributes with a layer's fields, by name without regard to case.

    Args:
        layer: the target.
        class_field: the field that takes the class, as chosen by the user; empty for one called ``class``.
        with_class: whether there is a class to write, so that its field can be missing.
    """
    names = {field.name().lower(): index for index, field in enumerate(layer.fields())}
    indices: dict[str, int] = {}
    missing = []
    for attribute in FIELD_TYPES:
        wanted = class_field if attribute == CLASS and class_field else attribute
        index = names.get(wanted.lower())
        if index is not None:
            indices[attribute] = index
        elif attribute != CLASS or with_class:
            missing.append(attribute)
    return FieldPlan(indices, {name: layer.fields().at(index) for name, index in indices.items()}, tuple(missing))


def make_field(name: str) -> QgsField:
    """Make the field of an attribute."""
    return QgsField(name, FIELD_TYPES[name])


def add_fields(layer: QgsVectorLayer, names: tuple[str, ...]) -> None:
    """Add fields to a layer being edited. A type that the provider does not know becomes text.

    Raises:
        OutputError: the layer does not take them.
    """
    if not names:
        return
    for name in names:
        field = make_field(name)
        if not layer.dataProvider().supportedType(field):
            fallback = QMetaType.Type.Int if FIELD_TYPES[name] == QMetaType.Type.Bool else QMetaType.Type.QString
            field = QgsField(name, fallback)
        if not layer.addAttribute(field):
            raise OutputError(
                QCoreApplication.translate(
                    "TargetFields", "The field “{field}” could not be added to “{layer}”. Choose another target layer."
                ).format(field=name, layer=layer.name()),
                "; ".join(layer.dataProvider().errors()),
            )
    layer.updateFields()


def converted_value(field: QgsField, value: object) -> object | None:
    """Return a value as a field's type takes it; None where it does not fit."""
    if isinstance(value, bool) and field.type() in NUMERIC:
        return int(value)
    if isinstance(value, float) and field.type() in NUMERIC and field.type() != QMetaType.Type.Double:
        value = round(value)
    try:
        converted = field.convertCompatible(value)
    except ValueError:
        return None
    if isinstance(converted, str) and field.type() == QMetaType.Type.QString and field.length() > 0:
        return converted[: field.length()]
    return converted  # type: ignore[no-any-return]
