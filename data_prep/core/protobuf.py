"""Messages of other programs' protobuf files, declared as far as we need them."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message


def message_class(schema: str, name: str) -> type[Message]:
    """Return the class of a message; `schema` is a FileDescriptorProto as text."""
    pool = descriptor_pool.DescriptorPool()  # not the default one, where the program's own may have the same name
    pool.Add(text_format.Parse(schema, descriptor_pb2.FileDescriptorProto()))
    found = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(found)
    return message_factory.MessageFactory(pool).GetPrototype(found)  # protobuf 3, which goes with an older protoc
