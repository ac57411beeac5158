"""Caffe's messages that a database is made of: Datum, a record, and BlobProto, the mean.

They have caffe.proto's names and numbers, without the fields that BVLC's own tools leave empty here. Caffe's caffe_pb2
has the same, but importing it loads all of Caffe: a second and 90 MB, for a process that only reads and writes files.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_SCHEMA = """
name: "datum.proto" package: "caffe"
message_type {
  name: "Datum"
  field { name: "channels" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "height" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "width" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "data" number: 4 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "label" number: 5 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "encoded" number: 7 type: TYPE_BOOL label: LABEL_OPTIONAL }
}
message_type {
  name: "BlobProto"
  field { name: "num" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "channels" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "height" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "width" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "data" number: 5 type: TYPE_FLOAT label: LABEL_REPEATED options { packed: true } }
}
"""
_POOL = descriptor_pool.DescriptorPool()  # not the default one, where Caffe's own messages have these names
_POOL.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
Datum = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("caffe.Datum"))
BlobProto = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("caffe.BlobProto"))
