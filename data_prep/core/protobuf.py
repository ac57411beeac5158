"""Messages of other programs' protobuf files, declared as far as we need them."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format


def message_class(schema: str, name: str) -> type:
    """Return the class of a message; `schema` is a FileDescriptorProto as text."""
    pool = descriptor_pool.DescriptorPool()  # not the default one, where the program's own may have the same name
    pool.Add(text_format.Parse(schema, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
